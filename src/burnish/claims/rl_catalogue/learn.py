"""One run of the learning table: a preset at a rate, from the seed's base model, until the token budget is spent."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, shared_of
from burnish.claims.rl_catalogue.base import base_of
from burnish.claims.rl_catalogue.settings import NEW_TOKENS, REWARD, TARGET, TASK, scale
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.records import Item, Limits, Sampling
from burnish.rl.doctor.examine import examine
from burnish.rl.rewards.task import TaskVerifier
from burnish.rl.trainer import Trainer
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.tasks.evaluation import evaluate
from burnish.tasks.scoring import to_items


def learn(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """The arm's settings: preset, its fields of `rl`, rate, and reward "task" or "random". JSON values:

    base, final: held-out pass rate {mean, low, high}. reached: generated tokens at the first evaluation above 0.6, or None.
    doctor: what it says of the run. curve: [tokens, pass rate, low, high] of each evaluation.
    tokens, updates, completions: spent. last: metrics of the last step.
    """
    numbers = scale(size)
    seed_everything(seed)
    shutil.rmtree(folder / "run", ignore_errors=True)
    config = config_of(arm.settings, seed, size, folder)
    policy = Policy(*load_model(config.model.path))
    drawn, held_out = problems(policy, seed, size, config.rl.group_size)
    trainer = build_trainer(config, policy, drawn, held_out, Run.create(folder / "run", config, command=f"claims rl-catalogue: {arm.name}"))
    stop_at(trainer, numbers.tokens)
    result = trainer.run()
    measured = evaluate(
        policy, held_out, TaskVerifier("sort", length=TASK.length), numbers.final_samples, Sampling(), seed=seed, name=arm.name
    )
    final = measured.success()
    found = summary(trainer.run_folder.metrics(), [final.mean, final.low, final.high], result.step)
    return found | {"doctor": diagnosis(folder / "run")}


def diagnosis(run: Path) -> dict[str, Any]:
    """What the doctor says of the run: its verdict, and the sentence of each alarm by name."""
    found = examine(run)
    return {"verdict": found.verdict, "alarms": {one.id: one.sentence for one in found.alarms}}


def config_of(settings: Mapping[str, Any], seed: int, size: str, folder: Path) -> TrainConfig:
    """The run's configuration: the preset's knobs, and what is the same for all."""
    numbers = scale(size)
    own = settings["rl"]
    batch = own["prompts_per_step"] * own["group_size"]
    reward = REWARD if settings["reward"] == "task" else {"name": "random", "p": 0.5, "seed": seed, "truth": REWARD}
    rl = {
        **own,
        "steps": 2 * max(1, numbers.tokens // (batch * (TASK.length or 1))),  # the token budget ends the run long before
        "learning_rate": settings["rate"],
        "max_new_tokens": NEW_TOKENS,
        "rewards": [reward],
        "slots": min(256, batch),
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 5,
    }
    ev = {"steps": max(1, numbers.eval_every // batch), "samples": numbers.samples, "metric_for_best": None}
    fields = {"stage": "rl", "seed": seed, "threads": 1, "output": str(folder / "run"), "rl": rl, "eval": ev}
    return build(TrainConfig, {**fields, "model": {"path": base_of(shared_of(folder))}})


def problems(policy: Policy, seed: int, size: str, group_size: int) -> tuple[list[Item], list[Item]]:
    """(to learn from, held out): the same for all presets of a seed, and none of the second in the first."""
    numbers, limits = scale(size), Limits(max_new_tokens=NEW_TOKENS)
    train, test = TASK.items(numbers.problems, seed), TASK.items(numbers.held_out, seed, "test")
    return to_items(train, policy.encode, group_size, limits), to_items(test, policy.encode, 1, limits)


def stop_at(trainer: Trainer, budget: int) -> None:
    """Ends the run after the step in which the generated tokens, those of dropped groups too, reach the budget."""
    spent = [0.0]

    def count(batch: Any, metrics: Mapping[str, float]) -> None:
        spent[0] += tokens_of(metrics)

    trainer.observers = (*trainer.observers, count)
    trainer.loop.stop_check = lambda: spent[0] >= budget


def tokens_of(row: Mapping[str, Any]) -> float:
    """Tokens generated in a step."""
    return float(row.get("rollouts/drawn", 0.0)) * float(row.get("completions/mean_length", 0.0))


KEPT = ("entropy", "grad_norm", "frac_reward_zero_std", "completions/clipped_ratio", "kl", "clip_ratio/region_mean", "success")


def summary(rows: Sequence[Mapping[str, Any]], final: list[float], steps: int) -> dict[str, Any]:
    """The result from the run's metrics."""
    curve, spent, completions, updates = [], 0.0, 0.0, 0.0
    for row in rows:
        spent += tokens_of(row)
        completions += float(row.get("rollouts/drawn", 0.0))
        updates += float(row.get("learner/updates", 0.0))
        if "eval/success" in row:
            curve.append([round(spent), *(round(float(row[f"eval/success{end}"]), 4) for end in ("", "_low", "_high"))])
    base = curve[0][1:]
    curve.append([round(spent), *(round(value, 4) for value in final)])
    return {
        "base": dict(zip(("mean", "low", "high"), base)),
        "final": dict(zip(("mean", "low", "high"), curve[-1][1:])),
        "reached": next((point[0] for point in curve if point[1] > TARGET), None),
        "curve": curve,
        "tokens": round(spent),
        "completions": round(completions),
        "updates": round(updates),
        "steps": steps,
        "last": {name: round(float(rows[-1][name]), 6) for name in KEPT if name in rows[-1]},
    }
