"""One arm: Dr.GRPO from the seed's start by the library's own trainer and engine, until the budget of generated tokens is spent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from burnish.claims.long_horizon_chains import world
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.records import Item
from burnish.rl.rewards.long_horizon_chains import FinalAnswer
from burnish.rl.trainer import Trainer
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything

CURRICULUM, UNIFORM, ONLY_1, ONLY_LONG = "curriculum", "uniform", "only-L1", "only-long"
ARMS = (CURRICULUM, UNIFORM, ONLY_1, ONLY_LONG)
POOL = 2048
"""Training chains of each horizon."""


def curriculum_of(arm: str, settings: dict[str, Any]) -> Any:
    """Which chains an arm draws. settings: "longest", "tokens", "prompts", "group"; "threshold" and "cap" where stages end by success.

    Without a threshold the stages are equal in generated tokens, of which a completion of horizon h has h + 1.
    """
    longest, own = settings["longest"], {"name": "long_horizon_chains", "probe": 0, "tokens": 2}
    if arm == UNIFORM:
        return "shuffled_epochs"
    if arm != CURRICULUM:
        h = 1 if arm == ONLY_1 else longest
        return {**own, "first": h, "last": h}
    if settings.get("threshold") is not None:
        return {**own, "last": longest, "threshold": settings["threshold"], "steps": settings["cap"], "window": 3}
    batch = settings["prompts"] * settings["group"]
    steps = [max(1, round(settings["tokens"] / longest / (batch * (h + 1)))) for h in range(1, longest + 1)]
    return {**own, "last": longest, "threshold": None, "steps": steps}


def config_of(arm: str, settings: dict[str, Any], seed: int, folder: Path) -> TrainConfig:
    """The run's configuration: the recipe of the paper, with what the small model needs."""
    batch = settings["prompts"] * settings["group"]
    rl = {
        "recipe": "long-horizon-chains",
        "curriculum": curriculum_of(arm, settings),
        "steps": settings["tokens"] // batch + 1,  # the token budget ends the run long before
        "learning_rate": settings["rate"],
        "prompts_per_step": settings["prompts"],
        "group_size": settings["group"],
        "max_new_tokens": settings["longest"] + 1,
        "engine_mode": "fast",
        "slots": batch,
        "save_steps": 200,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    return build(TrainConfig, {"stage": "rl", "seed": seed, "output": str(folder), "threads": 1, "rl": rl})


def train(
    arm: str,
    settings: dict[str, Any],
    seed: int,
    policy: Policy,
    folder: Path,
    watch: Callable[[int, float], bool] | None = None,
) -> dict[str, Any]:
    """Trains `policy` to the end of the budget; goes on where it was killed. watch: called with (step, tokens) after each step; True ends.

    Returns tokens, steps, the horizon and mean reward of each step.
    """
    config = config_of(arm, settings, seed, folder)
    run = Run.create(folder, config, command="burnish verify long-horizon-chains", resume=True)
    seed_everything(seed)
    trainer = build_trainer(config, policy, pool(arm, settings, seed, policy), [], run, FinalAnswer(world.check))
    end_at(trainer, settings["tokens"], watch)
    result = trainer.run()
    rows = [row for row in run.metrics() if "reward" in row]
    return {
        "tokens": int(rows[-1]["compute/tokens"]),
        "steps": result.step,
        "rewards": [round(float(row["reward"]), 3) for row in rows][:: max(1, len(rows) // 50)],
        "stages": [int(row["curriculum/horizon"]) for row in rows if "curriculum/horizon" in row][:: max(1, len(rows) // 50)],
    }


def pool(arm: str, settings: dict[str, Any], seed: int, policy: Policy) -> list[Item]:
    """The training chains, the same for all arms of a seed as far as they use them; the uniform mix has as many of each horizon."""
    longest = settings["longest"]
    wanted = {ONLY_1: [1], ONLY_LONG: [longest]}.get(arm, list(range(1, longest + 1)))
    chains = {h: world.chains(settings["pool"], seed, "train", h) for h in wanted}
    return [item for h in wanted for item in world.items(policy, chains[h], settings["group"], f"train-{h}")]


def end_at(trainer: Trainer, budget: int, watch: Callable[[int, float], bool] | None) -> None:
    """Ends the run after the step in which the generated tokens reach the budget, or where `watch` says so."""
    meter: Any = trainer.loop.parts["compute"]
    seen = {"step": 0}

    def count(batch: Any, metrics: dict[str, float]) -> None:
        seen["step"] = batch.step

    def done() -> bool:
        over = watch is not None and watch(seen["step"], meter.tokens)
        return over or meter.tokens >= budget

    trainer.observers = (*trainer.observers, count)
    trainer.loop.stop_check = done


def strict(items: Sequence[Item], chains: Sequence[world.Chain]) -> list[Item]:
    """The same items with all states in the column `states`, for `world.whole`."""
    rows = ["".join(world.STATES[state] for state in one.states) for one in chains]
    return [dataclasses.replace(item, columns={**item.columns, "states": row}) for item, row in zip(items, rows, strict=True)]
