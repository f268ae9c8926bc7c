"""One trial: train as said, ask the doctor, keep what it said."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from burnish.recipes.train import train
from burnish.runs.folder import Run
from doctor_plants.faults import Trial, edit_template, faults
from doctor_plants.healthy import healthy
from doctor_plants.world import World

KEPT = ("reward", "success", "frac_reward_zero_std", "completions/clipped_ratio", "completions/mean_length", "entropy", "update/kl", "loss",
        "update/loss_change", "eval/success", "sampling/sampling_logp_difference/mean",
        "sampling/sampling_logp_difference/slope")  # fmt: skip


def run_trial(task: str, name: str, work: Path, again: bool, train_only: bool = False) -> dict[str, Any] | None:
    """The result as JSON values; None where `again` finds no finished run, and with `train_only`. A finished run is not trained again."""
    trial = next(one for one in [*faults(task), *healthy(task)] if one.id == name)
    world = World(work, task)
    folder = world.folder / "runs" / name
    done = folder.parent / f".{name}.done"
    if not again and not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _train(trial, world)
        done.touch()
    if train_only or not done.exists():
        return None
    from burnish.recipes.doctor import doctor

    start = time.perf_counter()
    found = doctor(folder).to_dict()
    rows = Run(folder).metrics()
    figures = {key: [row[key] for row in rows if isinstance(row.get(key), float)] for key in KEPT}
    return {
        "trial": trial.id,
        "task": task,
        "stage": trial.stage,
        "fault": trial.fault,
        "strength": trial.strength,
        "expected": list(trial.expected),
        "verdict": found["verdict"],
        "named": any(finding["id"] in trial.expected and finding["severity"] != "note" for finding in found["findings"]),
        "alarms": [finding["id"] for finding in found["findings"] if finding["severity"] != "note"],
        "steps": len(rows),
        "train_seconds": round(sum(row.get("time/step", 0.0) for row in rows), 1),
        "diagnosis_seconds": round(time.perf_counter() - start, 2),
        "seed": 0,
        "threads": 1,
        "versions": {name: Run(folder).info["versions"].get(name) for name in ("burnish", "python", "torch", "transformers")},
        "figures": {key: [_mean(values[:5]), _mean(values[-5:])] for key, values in figures.items() if values},
        "findings": found["findings"],
        "checks": found["checks"],
    }


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 8)


def _train(trial: Trial, world: World) -> None:
    torch.set_num_threads(1)
    base = world.base(trial.base)
    if trial.template is not None:
        base = edit_template(base, trial.template, world.folder / "bases" / f"{trial.base}-{trial.template.__name__}")
    changes = dict(trial.changes)
    changes["model"] = {"path": str(base), **changes.get("model", {})}
    rows = trial.rows(world) if trial.rows else world.rows(2000, chat=trial.chat, slips=0.5 if trial.stage == "sft" else 0.0)
    held_out = trial.held_out(world) if trial.held_out else world.rows(100, "test", chat=trial.chat)
    changes["eval"] = {"path": world.file(f"{trial.id}-eval", held_out)}
    if trial.stage == "sft":
        config = world.sft(trial.id, {**changes, "sft": {**changes.get("sft", {})}})
    else:
        config = world.rl(trial.id, changes)
    with trial.patch(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(config, data=rows, reward=trial.reward(world) if trial.reward else None)
