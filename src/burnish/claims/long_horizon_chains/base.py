"""What all arms of a seed start from: a policy of 0.1M parameters that knows the walk but is careless, more so with depth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.claims.long_horizon_chains import world
from burnish.claims.long_horizon_chains.settings import common
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.evaluation.long_horizon_chains import horizon_curve
from burnish.inference.engine import Engine
from burnish.models import tiny, tokenizer
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.records import Item
from burnish.rl.rewards.long_horizon_chains import FinalAnswer
from burnish.runs import atomic
from burnish.runs.folder import Run
from burnish.runs.seeds import rng, seed_for
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft

DEEP_SHARE = 0.5
"""Of the fine-tuning chains have all eight steps; the others have fewer, so that the policy learns where a chain ends."""


def shared(seed: int, folder: Path, size: str) -> None:
    """`Claim.shared` of all three claims: the start of a seed."""
    make_base(seed, folder, common(size)["start"])


def make_base(seed: int, folder: Path, settings: dict[str, Any]) -> None:
    """Fills `folder/base` and writes `folder/start.json`: accuracy of the start at h = 1 ... 8.

    settings: "hidden"; "sft": a list of phases {"steps", "rate", "reliability" (of the teacher at each step)}, "batch"; "asked", "samples".
    """
    words = tokenizer.characters(world.ALPHABET)
    model = tiny.make("qwen3", words, hidden=settings["hidden"], layers=2, heads=4, kv_heads=2, max_length=32, seed=seed)
    policy = Policy(model, words)
    for number, phase in enumerate(settings["sft"]):
        _fine_tune(policy, fresh(folder, f"sft-{number}"), seed, number, phase, settings["batch"])
    save_model(policy.model, policy.tokenizer, folder / "base")
    found = accuracy(policy, seed, range(1, world.DEPTHS + 1), settings["asked"], settings["samples"])
    atomic.write_text(folder / "start.json", json.dumps(found) + "\n")


def base_of(shared: Path) -> Policy:
    """A fresh copy of the start."""
    return Policy(*load_model(str(shared / "base")))


def start_of(shared: Path) -> dict[str, float]:
    """Its accuracy by horizon."""
    return {str(key): float(value) for key, value in json.loads((shared / "start.json").read_text(encoding="utf-8")).items()}


def _fine_tune(policy: Policy, folder: Path, seed: int, number: int, phase: dict[str, Any], batch: int) -> None:
    generator = rng("long-horizon careless", seed, number)
    rows = phase["steps"] * batch
    counts = {
        h: int(rows * (DEEP_SHARE if h == world.DEPTHS else (1 - DEEP_SHARE) / (world.DEPTHS - 1))) for h in range(1, world.DEPTHS + 1)
    }
    taught = [one for h, n in counts.items() for one in world.chains(n, seed_for("sft", seed, number), "train", h)]
    data = [
        one.row(f"sft-{place}", world.careless(one, phase["reliability"][: len(one.moves)], generator)) for place, one in enumerate(taught)
    ]
    config = SFTConfig(
        steps=phase["steps"], batch_size=batch, learning_rate=phase["rate"], schedule="cosine", warmup=0.05, betas=(0.9, 0.98), seed=seed
    )
    train_sft(policy, to_examples(load_rows(data), policy, "completion", None), config, Run.create(folder, config))


def fresh(folder: Path, name: str) -> Path:
    """A run folder; a try that was killed is left behind under its number."""
    number = 0
    while (folder / f"{name}-{number}").exists():
        number += 1
    return folder / f"{name}-{number}"


def held_out(policy: Policy, seed: int, horizon: int, n: int) -> list[Item]:
    """Held-out chains of one horizon, the same for all arms of a seed; of one step there are only a few."""
    most = min(n, {1: 25, 2: 200}.get(horizon, n))
    return world.items(policy, world.chains(most, seed, "test", horizon), 1, f"test-{horizon}")


def accuracy(policy: Policy, seed: int, horizons: Sequence[int], asked: int, samples: int) -> dict[str, float]:
    """Accuracy at temperature 1 by horizon, on up to `asked` held-out chains of each; h = 1 is among them."""
    items = [item for h in horizons for item in held_out(policy, seed, h, asked)]
    curve = horizon_curve(policy, items, FinalAnswer(world.check), samples=samples, seed=seed, engine=engine_of(policy))
    return {str(depth.horizon): round(depth.accuracy.mean, 5) for depth in curve.depths}


def engine_of(policy: Policy) -> Engine:
    """For evaluation: fast mode, many rows at once."""
    return Engine(policy.model, policy.tokenizer, policy.eos_ids, mode="fast", slots=512, max_length=policy.max_length)
