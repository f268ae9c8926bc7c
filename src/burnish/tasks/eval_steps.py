"""Each held-out item's successes at every evaluation of a run, kept small: what intervals clustered by prompt are made of.

evals/steps/step-000010.json    {"step": 10, "samples": 16, "items": {"item id": [successes, completions whose success is known]}}
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from burnish.runs import atomic
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.tasks.eval_result import EvalResult


@dataclasses.dataclass(frozen=True)
class StepSuccesses:
    """One evaluation. items: id -> (sum of successes, completions whose success is known)."""

    step: int
    samples: int
    items: dict[str, tuple[float, int]]

    def rates(self) -> dict[str, float]:
        """Each item's pass rate, where any of its completions has a known success."""
        return {key: right / n for key, (right, n) in self.items.items() if n}


def path_of(folder: str | Path, step: int) -> Path:
    """The file of one evaluation."""
    return Path(folder) / "evals" / "steps" / f"step-{step:06d}.json"


def save_successes(run: Run, step: int, result: EvalResult) -> None:
    """Writes one evaluation's file at once. An evaluation in which no success is known leaves no file."""
    write_successes(run.path, StepSuccesses(step, result.samples, {item.id: (sum(item.known), item.n) for item in result.items}))


def write_successes(folder: str | Path, found: StepSuccesses) -> None:
    """The file of one evaluation, however it was made."""
    if not any(n for _, n in found.items.values()):
        return
    path = path_of(folder, found.step)
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(dataclasses.asdict(found), ensure_ascii=False, allow_nan=False) + "\n")


def load_successes(folder: str | Path) -> dict[int, StepSuccesses]:
    """Every evaluation of a run by step; empty where it kept none. Raises UserError naming a broken file."""
    found = {}
    for path in sorted((Path(folder) / "evals" / "steps").glob("step-*.json")):
        match = re.fullmatch(r"step-(\d+)\.json", path.name)
        if match is None:
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            items = {str(key): (float(right), int(n)) for key, (right, n) in data["items"].items()}
            found[int(match.group(1))] = StepSuccesses(int(match.group(1)), int(data["samples"]), items)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no evaluation of a run ({type(error).__name__}: {error}); remove it or restore it") from None
    return found
