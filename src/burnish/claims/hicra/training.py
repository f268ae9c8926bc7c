"""One run of hicra.2 and hicra.3: a small policy that executes, but does not know which strategy solves what, and GRPO in some arm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import shared_of
from burnish.claims.hicra import world
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.models import tiny
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.recipes.train import items_of
from burnish.records import Sampling
from burnish.rl.rewards.verifier import Verifier
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft
from burnish.tasks.evaluation import evaluate

HERE = "burnish.claims.hicra"
ALPHA = 0.2


def make_base(seed: int, folder: Path, settings: Mapping[str, Any], skill: str) -> None:
    """Fills `folder/<skill>` with a policy fine-tuned on demonstrations: random strategies, executed with the skill's share of slips."""
    words = world.tokenizer()
    model = tiny.make("qwen3", words, hidden=settings["hidden"], layers=2, heads=4, kv_heads=2, max_length=32, seed=seed)
    policy, sft = Policy(model, words), settings["sft"]
    rows = world.demonstrations(sft["rows"], seed, sft["slips"][skill])
    config = SFTConfig(steps=sft["steps"], batch_size=sft["batch"], learning_rate=sft["rate"], warmup=0.05, seed=seed)
    run = Run.create(folder / f"sft-{skill}", config)
    train_sft(policy, to_examples(load_rows(rows), policy, "completion", None), config, run)
    save_model(policy.model, words, folder / skill)
    shutil.rmtree(folder / f"sft-{skill}")


def credit_of(arm: str) -> tuple[list[Any], list[Any]]:
    """(credit chain, further shapers) of an arm: the mean boost of all arms but GRPO is the same."""
    boosts: dict[str, Any] = {
        "grpo": None,
        "hicra": {"name": "hicra", "alpha": ALPHA},
        "placebo": {"name": "hicra", "alpha": ALPHA, "column": "placebo"},
        "entropy": {"name": f"{HERE}.credit:BoostUncertain", "alpha": ALPHA, "share": world.PLANNING},
        "whole": {"name": f"{HERE}.credit:BoostAll", "alpha": ALPHA * world.PLANNING},
    }
    chain = ["group_mean"] if boosts[arm] is None else ["group_mean", boosts[arm]]
    return chain, [{"name": f"{HERE}.shapers:Placebo"}] if arm == "placebo" else []


def config_of(settings: Mapping[str, Any], arm: str, skill: str, rate: float, seed: int, folder: Path) -> TrainConfig:
    """GRPO as HICRA has it: centred advantage, clip-higher, no KL; the same samples, steps and tokens for every arm."""
    base = str(shared_of(folder) / skill)
    chain, more = credit_of(arm)
    watch = {
        "name": "hicra",
        "grams": list(world.PHRASES),
        "tokenizer": base,
        "subsample": settings["subsample"],
        "least": settings["least"],
    }
    rl = {
        "steps": settings["steps"],
        "learning_rate": rate,
        "epsilon": settings["epsilon"],
        "prompts_per_step": settings["prompts"],
        "group_size": settings["group"],
        "minibatches": settings["minibatches"],
        "max_new_tokens": world.NEW_TOKENS,
        "objective": {
            "preset": "grpo",
            "credit": chain,
            "surrogate": {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28},
            "kl": {"beta": 0.0},
            "entropy": {"measure": True},
        },
        "shapers": [watch, *more],
        "engine_mode": "fast",
        "slots": settings["prompts"] * settings["group"],
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    return build(TrainConfig, {"stage": "rl", "seed": seed, "output": str(folder / "rl"), "threads": 1, "model": {"path": base}, "rl": rl})


def train(
    settings: Mapping[str, Any], arm: str, skill: str, rate: float, seed: int, folder: Path, kinds: int = len(world.PHRASES)
) -> dict[str, Any]:
    """One run, from the seed's base to the end of its steps. JSON values; the lists have one entry for each step.

    success: pass rate of the step's samples, drawn before its update. base, final: of held-out problems, before the first update and after
    the last: "right", the pass rate, and "executed", the share of completions that carry out some strategy without a slip.
    """
    seed_everything(seed)
    shutil.rmtree(folder / "rl", ignore_errors=True)
    config = config_of(settings, arm, skill, rate, seed, folder)
    policy = Policy(*load_model(config.model.path))
    run = Run.create(folder / "rl", config, command="burnish verify hicra")
    drawn = [one.row(f"p{place}") for place, one in enumerate(world.problems(settings["steps"] * settings["prompts"], seed, kinds=kinds))]
    trainer = build_trainer(config, policy, items_of(config, policy, load_rows(drawn), settings["group"]), [], run, Verifier(world.check))
    asked = world.problems(settings["held_out"], seed, "test", kinds)
    items = items_of(config, policy, load_rows([one.row(f"h{place}") | {"start": one.start} for place, one in enumerate(asked)]), 1)
    engine = trainer.queue.source.engine

    def measured(check: Callable[..., bool], version: int) -> float:
        """On problems that were never trained on, at temperature 1."""
        engine.refresh(version)
        return round(evaluate(policy, items, Verifier(check), settings["samples"], Sampling(), seed=seed, engine=engine).success().mean, 5)

    base = {"right": measured(world.check, 0), "executed": measured(executed, 0)}
    trainer.run()
    final = {"right": measured(world.check, settings["steps"]), "executed": measured(executed, settings["steps"])}
    rows = run.metrics()
    curves = {name: [round(float(row[key]), 5) if key in row else None for row in rows] for name, key in CURVES.items()}
    return {"base": base, "final": final, "tokens": round(rows[-1]["compute/tokens"]), "flops": rows[-1].get("compute/flops"), **curves}


CURVES = {
    "success": "success",
    "token_entropy": "entropy",
    "semantic_entropy": "hicra/semantic_entropy",
    "semantic_entropy_right": "hicra/semantic_entropy_right",
    "semantic_entropy_right_fixed": "hicra/semantic_entropy_right_fixed",
    "planning_share": "hicra/planning_share",
}
"""What is kept of a run's metrics."""


def executed(text: str, columns: Mapping[str, Any]) -> bool:
    """Whether a completion carries out some strategy without a slip."""
    return world.executed(text, int(columns["start"]))


def smooth(values: Sequence[float], width: int = 5) -> np.ndarray:
    """Means over the last `width` steps, fewer at the start."""
    x = np.asarray(values, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(x)])
    places = np.arange(1, len(x) + 1)
    starts = np.maximum(0, places - width)
    return (sums[places] - sums[starts]) / (places - starts)


def steps_to(success: Sequence[float], target: float = 0.8, width: int = 5) -> float | None:
    """Updates before the smoothed pass rate first reaches the target, interpolated between two steps; None where it never does."""
    curve = smooth(success, width)
    above = np.flatnonzero(curve >= target)
    if not len(above):
        return None
    n = int(above[0])
    return float(n) if n == 0 else float(n - 1 + (target - curve[n - 1]) / (curve[n] - curve[n - 1]))
