"""Arm: the runs of one setting, one for each seed, with their learning curves against FLOPs, tokens and seconds."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.reports.run_files import RunFiles, read_run
from burnish.runs.errors import UserError, did_you_mean

AXES = {"flops": ("compute/flops",), "tokens": ("compute/tokens", "num_tokens"), "seconds": ()}
"""An axis of learning curves -> the metrics that hold it, cumulative; seconds are summed from time/step."""


@dataclasses.dataclass(frozen=True)
class RunCurve:
    """One run. x: by axis, cumulative, one value for each evaluation; y: the metric there. rows: every row of metrics, times left out."""

    path: str
    seed: int
    x: dict[str, np.ndarray]
    y: np.ndarray
    rows: str

    def at(self, axis: str, place: float) -> float:
        """The metric at a place of an axis, between two evaluations on the straight line."""
        return float(np.interp(place, self.x[axis], self.y))


@dataclasses.dataclass(frozen=True)
class Arm:
    """name: "A" or "B". config: of its first run, seed and output left out."""

    name: str
    curves: tuple[RunCurve, ...]
    config: dict[str, Any]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of its runs, in order."""
        return tuple(curve.seed for curve in self.curves)

    def end(self, axis: str) -> float:
        """The place that every run of the arm reached."""
        return min(float(curve.x[axis][-1]) for curve in self.curves)


def read_arm(name: str, folders: Sequence[str | Path], metric: str) -> Arm:
    """Raises UserError where a run lacks the metric or has no evaluation, or where two runs have one seed."""
    runs = [read_run(folder) for folder in folders]
    if not runs:
        raise UserError(f"arm {name} has no runs")
    found = sorted((_curve(run, metric) for run in runs), key=lambda curve: curve.seed)
    seeds = [curve.seed for curve in found]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"arm {name} has two runs with one seed ({seeds}); every run of an arm needs a seed of its own")
    config = {key: value for key, value in runs[0].config.items() if key not in ("seed", "output", "threads")}
    return Arm(name, tuple(found), config)


def _curve(run: RunFiles, metric: str) -> RunCurve:
    rows = sorted(run.metrics, key=lambda row: row["step"])
    places = [place for place, row in enumerate(rows) if _number(row.get(metric))]
    if not places:
        known = sorted({key for row in rows for key in row if key.startswith("eval")})
        raise UserError(f"{run.path}: no row of metrics.jsonl has {metric!r}; {did_you_mean(metric, known) if known else 'set eval.steps'}")
    y = np.array([float(rows[place][metric]) for place in places])
    x = {axis: values[places] for axis in AXES if (values := _cumulative(rows, axis)) is not None}
    if "tokens" not in x:
        raise UserError(f"{run.path}: its metrics count neither tokens nor FLOPs, so it cannot be matched with another run")
    seed = run.config.get("seed")
    return RunCurve(str(run.path), int(seed) if isinstance(seed, int) else 0, x, y, _without_times(rows))


def _cumulative(rows: Sequence[dict[str, Any]], axis: str) -> np.ndarray | None:
    """The axis at every row, 0 before the first step; None where the run does not count it."""
    if axis == "seconds":
        return np.cumsum([float(row["time/step"]) if _number(row.get("time/step")) else 0.0 for row in rows])
    key = next((key for key in AXES[axis] if any(_number(row.get(key)) for row in rows)), None)
    if key is None:
        return None
    out, last = [], 0.0
    for row in rows:
        last = float(row[key]) if _number(row.get(key)) else last
        out.append(last)
    return np.array(out)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _without_times(rows: Sequence[dict[str, Any]]) -> str:
    kept = [{key: value for key, value in row.items() if not key.startswith(("time/", "memory/"))} for row in rows]
    return json.dumps(kept, sort_keys=True)
