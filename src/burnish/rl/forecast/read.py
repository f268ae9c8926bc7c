"""Points from what is on disk: a run folder of `burnish train`, or a JSONL file with one evaluation a line.

A line holds `compute`, `pass_rate`, `n_prompts` and `n_samples`, and may hold `items`: each prompt's own pass rate, in the same order on
every line. Without these, intervals cannot be clustered by prompt. The first line may have compute 0: the pass rate before RL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.rl.forecast.points import Points, make_points
from burnish.rl.forecast.refusals import MIN_POINTS
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.folder import Run
from burnish.tasks.eval_steps import StepSuccesses, load_successes

FIELDS = ("compute", "n_prompts", "n_samples", "pass_rate")
AXES = {"flops": "FLOPs", "tokens": "tokens written", "steps": "steps"}


def read_points(path: str | Path, axis: str = "flops") -> Points:
    """A run folder or a JSONL file as Points. axis: compute axis of run folders ("flops", "tokens" or "steps").

    Raises UserError with file, line and field for whatever is wrong, and for fewer evaluations than a fit needs.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{place} does not exist; give run folders, or JSONL files with {', '.join(FIELDS)}")
    points = _from_run(place, axis) if place.is_dir() else _from_file(place)
    after = int((points.compute > 0).sum())
    if after < MIN_POINTS:
        raise UserError(f"{place} holds {after} evaluations after the start; a fit needs at least {MIN_POINTS}: evaluate more often")
    return points


def _from_file(path: Path) -> Points:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            rows.append((number, _row(line, f"{path}, line {number}")))
    if not rows:
        raise UserError(f"{path} holds no evaluation; write one JSON object a line with {', '.join(FIELDS)}")
    where = [f"{path}, line {number}" for number, _ in rows]
    given = [row.get("items") for _, row in rows]
    items = None
    if any(one is not None for one in given):
        items = _item_table(given, where)
    for place, (number, row) in zip(where[1:], rows[1:]):
        before = rows[[n for n, _ in rows].index(number) - 1][1]
        if row["compute"] <= before["compute"]:
            raise UserError(f"{place}: compute is {row['compute']:g}, after {before['compute']:g}; it must rise from line to line")
        for field in ("n_prompts", "n_samples"):
            if row[field] != before[field]:
                raise UserError(f"{place}: {field} is {row[field]}, before it was {before[field]}; ask the same prompts equally often")
    first = rows[0][1]
    compute, rates = [row["compute"] for _, row in rows], [row["pass_rate"] for _, row in rows]
    return make_points(compute, rates, items, int(first["n_prompts"]), int(first["n_samples"]), _name(path), "compute")


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise UserError(f"{place} is not JSON; write one JSON object a line") from None
    if not isinstance(row, dict):
        raise UserError(f"{place} is not a JSON object; write one a line with {', '.join(FIELDS)}")
    checks: dict[str, tuple[Callable[[float], bool], str]] = {
        "compute": (lambda x: x >= 0, "a number of at least 0"),
        "n_prompts": (lambda x: x >= 1 and x == int(x), "a whole number of at least 1"),
        "n_samples": (lambda x: x >= 1 and x == int(x), "a whole number of at least 1"),
        "pass_rate": (lambda x: 0 <= x <= 1, "a share from 0 to 1"),
    }
    for field, (fine, wanted) in checks.items():
        if field not in row:
            raise UserError(f"{place}: {field!r} is missing (there: {', '.join(map(str, row)) or 'nothing'}); it must be {wanted}")
        value = row[field]
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or not fine(value):
            raise UserError(f"{place}: {field} is {value!r}; it must be {wanted}")
    return row


def _item_table(given: Sequence[Any], where: Sequence[str]) -> np.ndarray:
    """[evaluations, prompts]; every line must hold as many rates as the first."""
    size = len(given[0]) if isinstance(given[0], list) else 0
    for one, place in zip(given, where):
        fine = isinstance(one, list) and len(one) == size and size > 0
        if not fine or not all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in one):
            raise UserError(f"{place}: items must be a list of pass rates from 0 to 1, one for each prompt, as many on every line")
    return np.array(given, dtype=np.float64)


def _from_run(path: Path, axis: str) -> Points:
    if axis not in AXES:
        raise UserError(f"--axis {axis!r} is unknown; {did_you_mean(axis, AXES)}")
    run = Run(path)
    rows = [row for row in run.metrics() if isinstance(row.get("eval/success"), float | int)]
    if not rows:
        hint = "evaluate while training (--eval.steps 10 and --eval.rows or --eval.path), with a reward that knows success"
        raise UserError(f"{path} holds no held-out pass rate (eval/success in metrics.jsonl); {hint}")
    compute = [_compute(row, axis, path) for row in rows]
    kept = load_successes(path)
    found = [kept.get(int(row["step"])) for row in rows]
    rates, items, prompts, samples, ids = [float(row["eval/success"]) for row in rows], None, None, None, None
    if all(one is not None for one in found):
        items, samples, ids = _tables([one for one in found if one is not None])
        prompts, rates = items.shape[1], list(items.mean(1))
    return make_points(compute, rates, items, prompts, samples, _name(path), AXES[axis], ids)


def _compute(row: Mapping[str, Any], axis: str, path: Path) -> float:
    step = int(row["step"])
    if axis == "steps" or step == 0:
        return float(step)
    value = row.get(f"compute/{axis}")
    if not isinstance(value, float | int):
        raise UserError(f"{path}: the row of step {step} has no compute/{axis}; choose --axis steps for runs that did not log it")
    return float(value)


def _tables(found: Sequence[StepSuccesses]) -> tuple[np.ndarray, int, list[str]]:
    """(each prompt's pass rate [evaluations, prompts], samples, ids), over the prompts that are known at every evaluation."""
    rates = [one.rates() for one in found]
    names = [name for name in rates[0] if all(name in later for later in rates[1:])]
    return np.array([[one[name] for name in names] for one in rates]), found[0].samples, names


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name
