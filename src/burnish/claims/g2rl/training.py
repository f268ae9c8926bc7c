"""The base model of a seed, and one run of g2rl.1: an arm on the same prompts, from the same weights, for the same steps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.claims.g2rl import world
from burnish.claims.harness.claim import Arm, shared_of
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.recipes.train import items_of
from burnish.records import Rollout, Sampling
from burnish.rl.rewards.g2rl.baselines import ngram_counts
from burnish.rl.rewards.g2rl.exploration import cosines, geometry
from burnish.rl.rewards.g2rl.features import sensitivity_need
from burnish.rl.rewards.verifier import Verifier
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything, seed_for
from burnish.runs.stats import pass_at_k
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft

GROUP = 16
"""Completions that pass@16, distinct answers and cosines are taken over."""


def make_base(settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Fills `folder/model`: a small model, fine-tuned on a careless teacher's paths until its pass rate on train pairs is as wanted."""
    sft, words = settings["sft"], tokenizer.characters(world.ALPHABET)
    model = tiny.make("qwen3", words, hidden=settings["hidden"], layers=2, heads=4, kv_heads=2, max_length=16, seed=seed)
    policy, given = Policy(model, words), world.split("train")
    asked = [given[int(place)] for place in np.linspace(0, len(given) - 1, sft["asked"])]
    seen = [0]

    def there() -> bool:
        seen[0] += 1
        if seen[0] % int(sft["every"]):
            return False
        return measures(policy, asked, 4, seed_for("g2rl sft", seed, seen[0]))["pass@1"] >= sft["wanted"]

    config = SFTConfig(steps=sft["steps"], batch_size=sft["batch"], learning_rate=sft["rate"], schedule="constant", warmup=0.02, seed=seed)
    rows = world.demonstrations(sft["rows"], seed, sft["slips"])
    shutil.rmtree(folder / "sft", ignore_errors=True)
    run = Run.create(folder / "sft", config)
    train_sft(policy, to_examples(load_rows(rows), policy, "completion", None), config, run, stop_check=there)
    save_model(policy.model, policy.tokenizer, folder / "model")
    shutil.rmtree(folder / "sft")


def train_and_measure(arm: Arm, settings: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """JSON values. base, final: see `measures`, on held-out pairs; by_pair: the final ones of each. curve: [step, pass@1, pass@16,
    distinct, mean_cosine] on the way. to_target: steps until held-out pass@1 first reached 0.8, or None. success: of each step's samples.
    tokens, flops: spent.
    """
    seed_everything(seed)
    shutil.rmtree(folder / "run", ignore_errors=True)
    config = config_of(arm.settings, settings, seed, folder)
    policy = Policy(*load_model(config.model.path))
    run = Run.create(folder / "run", config, command=f"claims g2rl: {arm.name}")
    given = load_rows(world.rows(world.drawn(settings["steps"] * settings["prompts"], seed), "rl"))
    items = items_of(config, policy, given, settings["group"])
    trainer = build_trainer(config, policy, items, [], run, Verifier(world.check, name="path"))
    held_out = world.split("test")[: settings["held_out"]]
    base = measures(policy, held_out, settings["final_samples"], seed_for("g2rl final", seed))
    curve = [_point(0, base)]

    def look(batch: Any, metrics: Any) -> None:
        if batch.step % settings["eval_every"] == 0 and batch.step < settings["steps"]:
            curve.append(_point(batch.step, measures(policy, held_out, GROUP, seed_for("g2rl way", seed, batch.step))))

    trainer.observers = (*trainer.observers, look)
    trainer.run()
    final = measures(policy, held_out, settings["final_samples"], seed_for("g2rl final", seed), by_pair=True)
    curve.append(_point(settings["steps"], final))
    metrics = run.metrics()
    return {
        "base": base,
        "by_pair": final.pop("by_pair"),
        "final": final,
        "curve": curve,
        "to_target": next((point[0] for point in curve if point[1] >= TARGET), None),
        "success": [round(float(row["success"]), 4) for row in metrics],
        "tokens": float(metrics[-1].get("compute/tokens", 0.0)),
        "flops": float(metrics[-1].get("compute/flops", 0.0)),
    }


TARGET = 0.8
ON_THE_WAY = ("pass@1", "pass@16", "distinct", "mean_cosine")


def _point(step: int, found: Mapping[str, Any]) -> list[float]:
    return [step, *(round(float(found[name]), 4) for name in ON_THE_WAY)]


def config_of(own: Mapping[str, Any], settings: Mapping[str, Any], seed: int, folder: Path) -> TrainConfig:
    """GRPO as the paper has it, without KL: group standardisation, clip 0.2. Arms differ in shaper or entropy bonus, and in their rate.

    Every arm ends with the watching shaper, so that all measure, and spend, the same.
    """
    clip = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2}
    rl = {
        "steps": settings["steps"],
        "learning_rate": own["rate"],
        "warmup": 0.05,
        "prompts_per_step": settings["prompts"],
        "group_size": settings["group"],
        "minibatches": settings["minibatches"],
        "max_new_tokens": world.NEW_TOKENS,
        "objective": {"preset": "grpo", "surrogate": clip, "kl": {"beta": 0.0}, "entropy": {"eta": own["eta"]}},
        "shapers": [*(_seeded(one, seed) for one in own["shapers"]), "update_geometry"],
        "engine_mode": "fast",
        "slots": settings["prompts"] * settings["group"],
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    model = {"path": str(shared_of(folder) / "model")}
    return build(TrainConfig, {"stage": "rl", "seed": seed, "threads": 1, "output": str(folder / "run"), "model": model, "rl": rl})


def _seeded(shaper: Any, seed: int) -> Any:
    return {**shaper, "seed": seed} if isinstance(shaper, dict) and shaper["name"] == "random_nubar" else shaper


@torch.no_grad()
def measures(policy: Policy, asked: list[world.Pair], samples: int, seed: int, by_pair: bool = False) -> dict[str, Any]:
    """Means over pairs of: pass@1, pass@16 (unbiased); distinct: different right answers among 16; mean_cosine, negative_share,
    effective_rank: between the update directions of 16; text_cosine: between their character 2-grams. With fewer than 16 samples: of those.
    """
    prompts = [policy.encode(one.prompt) for one in asked]
    seeds = [[seed_for("g2rl sample", seed, one.prompt, n) for n in range(samples)] for one in asked]
    engine = Engine(policy.model, tokenizer=policy.tokenizer, eos_ids=policy.eos_ids, mode="fast", slots=256)
    turns = generate(engine, prompts, Sampling(), n=samples, max_new_tokens=world.NEW_TOKENS, seeds=seeds)
    rollouts = [Rollout(one.prompt, n, [turn], turn.stop) for one, row in zip(asked, turns) for n, turn in enumerate(row)]  # type: ignore[arg-type]
    need = sensitivity_need()
    features = torch.stack(policy.score(rollouts, (need,))[need.key]).double().numpy().reshape(len(asked), samples, -1)
    texts = [[policy.decode(turn.output_ids) for turn in row] for row in turns]
    found = [_of_pair(one, row, vectors) for one, row, vectors in zip(asked, texts, features)]
    out: dict[str, Any] = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    if by_pair:
        out["by_pair"] = {name: [round(one[name], 4) for one in found] for name in ("pass@1", "pass@16", "distinct", "mean_cosine")}
    return out


def _of_pair(pair: world.Pair, texts: list[str], vectors: np.ndarray) -> dict[str, float]:
    right = [text in pair.answers for text in texts]
    size = min(GROUP, len(texts))
    blocks = [slice(start, start + size) for start in range(0, len(texts) - size + 1, size)]
    shapes = [geometry(*cosines(vectors[block])) for block in blocks]
    words = [cosines(ngram_counts(texts[block], 2))[0][np.triu_indices(size, 1)].mean() for block in blocks]
    out = {
        "pass@1": float(np.mean(right)),
        "pass@16": pass_at_k(len(right), sum(right), size),
        "distinct": float(np.mean([len({text for text, good in zip(texts[block], right[block]) if good}) for block in blocks])),
        "text_cosine": float(np.mean(words)),
    }
    return out | {name: float(np.mean([one[name] for one in shapes])) for name in ("mean_cosine", "negative_share", "effective_rank")}
