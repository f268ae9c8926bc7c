"""The base model of a seed, and one run of hero.1: an arm's shaper on the same prompts, from the same weights, for the same steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import Arm, shared_of
from burnish.claims.hero.world import ALPHABET, MOST_CHARACTERS, measures, problems
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.models import tiny, tokenizer
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.recipes.train import items_of
from burnish.records import Item, Limits, Sampling
from burnish.rl.trainer import Trainer
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft
from burnish.tasks.evaluation import evaluate

SCORER = "burnish.claims.hero.world:scorer"
VERIFIER = "burnish.claims.hero.world:verifier"


def make_base(settings: dict[str, Any], seed: int, folder: Path) -> None:
    """Fills `folder/model`: a small model, fine-tuned on a careless teacher's answers."""
    sft = settings["sft"]
    words = tokenizer.characters(ALPHABET)
    policy = Policy(tiny.make("qwen3", words, hidden=settings["hidden"], layers=2, heads=4, kv_heads=2, max_length=32, seed=seed), words)
    shutil.rmtree(folder / "sft", ignore_errors=True)
    rows = [one.row(f"sft-{place}") for place, one in enumerate(problems(sft["rows"], seed, "train", sft["slips"]))]
    config = SFTConfig(steps=sft["steps"], batch_size=sft["batch"], learning_rate=sft["rate"], schedule="cosine", warmup=0.05, seed=seed)
    train_sft(policy, to_examples(load_rows(rows), policy, "completion", None), config, Run.create(folder / "sft", config))
    save_model(policy.model, policy.tokenizer, folder / "model")


def train_and_measure(arm: Arm, settings: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """JSON values.

    base, final: true accuracy, share that the verifier accepts, minus signs and score, on held-out prompts. curve: the same, after the
    step. groups: shares of groups that were all wrong and mixed under the verifier, in the first tenth of the run. tokens, flops: spent.
    agreement: mean rank agreement of the scorer on mixed groups, where the arm measures it.
    """
    seed_everything(seed)
    shutil.rmtree(folder / "run", ignore_errors=True)
    config = config_of(arm, settings, seed, folder)
    policy = Policy(*load_model(str(shared_of(folder) / "model")))
    run = Run.create(folder / "run", config, command=f"claims hero: {arm.name}")
    drawn = problems(settings["rl_steps"] * settings["rl_prompts"], seed + 1, "train")
    items = items_of(config, policy, load_rows([one.row(f"rl-{place}") for place, one in enumerate(drawn)]), settings["group"])
    trainer = build_trainer(config, policy, items, [], run)
    held_out = [
        Item(f"test-{place}", policy.encode(one.prompt), 1, Limits(MOST_CHARACTERS), {"value": one.value, "asked": one.prompt})
        for place, one in enumerate(problems(settings["held_out"], seed, "test"))
    ]
    shares: list[tuple[float, float]] = []
    trainer.observers = (*trainer.observers, lambda batch, metrics: shares.append(verified_shares(batch)))
    curve = [[0, *measured(policy, held_out, settings["samples"], seed, 0)]]
    evaluate_on_the_way(trainer, settings, policy, held_out, seed, curve)
    trainer.run()
    early = np.array(shares[: max(1, len(shares) // 10)]).mean(0)
    metrics = run.metrics()
    ranks = [float(row["hero/agreement"]) for row in metrics if "hero/agreement" in row]
    return {
        "base": dict(zip(MEASURES, curve[0][1:])),
        "final": dict(zip(MEASURES, curve[-1][1:])),
        "curve": curve,
        "groups": {"all_wrong": float(early[0]), "mixed": float(early[1])},
        "tokens": float(metrics[-1].get("compute/tokens", 0.0)),
        "flops": float(metrics[-1].get("compute/flops", 0.0)),
        "agreement": float(np.mean(ranks)) if ranks else None,
    }


MEASURES = ("true", "verified", "signs", "score")


def config_of(arm: Arm, settings: dict[str, Any], seed: int, folder: Path) -> TrainConfig:
    """Centre only, clip 0.2 and 0.28, no KL: the same for all arms but the shaper and the rate that the grid chose."""
    rl = {
        "recipe": "hero",
        "steps": settings["rl_steps"],
        "learning_rate": arm.settings["rate"],
        "warmup": 0.05,
        "prompts_per_step": settings["rl_prompts"],
        "group_size": settings["group"],
        "minibatches": settings["minibatches"],
        "max_new_tokens": MOST_CHARACTERS,
        "rewards": [VERIFIER],
        "shapers": [{**shaper, "scorer": SCORER} for shaper in arm.settings["shapers"]],
        "engine_mode": "fast",
        "slots": settings["rl_prompts"] * settings["group"],
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    return build(TrainConfig, {"stage": "rl", "seed": seed, "threads": 1, "output": str(folder / "run"), "rl": rl})


def evaluate_on_the_way(
    trainer: Trainer, settings: dict[str, Any], policy: Policy, held_out: list[Item], seed: int, curve: list[list[float]]
) -> None:
    """Adds a point to the curve every `eval_every` steps, the last one with `final_samples`."""
    every, last = settings["eval_every"], settings["rl_steps"]

    def look(batch: Any, metrics: Any) -> None:
        if batch.step == last or batch.step % every == 0:
            samples = settings["final_samples"] if batch.step == last else settings["samples"]
            curve.append([batch.step, *measured(policy, held_out, samples, seed, batch.step)])

    trainer.observers = (*trainer.observers, look)


def measured(policy: Policy, held_out: list[Item], samples: int, seed: int, step: int) -> list[float]:
    """[true accuracy, verified, minus signs, score]: means over all completions at temperature 1."""
    found = evaluate(policy, held_out, measures, samples, Sampling(), seed=seed, name=f"step {step}")
    parts = [part for item in found.items for part in item.parts]
    return [found.success().mean, *(float(np.mean([part[name] for part in parts])) for name in MEASURES[1:])]


def verified_shares(batch: Any) -> tuple[float, float]:
    """Shares of groups without and with some (not only) verified completions."""
    rates = [np.mean([score.success or 0.0 for score in group.scores]) for group in batch.groups]
    return float(np.mean([rate == 0 for rate in rates])), float(np.mean([0 < rate < 1 for rate in rates]))
