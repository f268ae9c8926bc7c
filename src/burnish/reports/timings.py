"""Where the time of a run went."""

from __future__ import annotations

import dataclasses

from burnish.reports.run_files import RunFiles, finite

LABELS = {
    "generate": "generation",
    "score": "score",
    "measure": "measure",
    "credit": "credit",
    "forward": "forward",
    "backward": "backward",
    "gradient": "forward and backward",
    "optimizer": "optimiser",
    "record": "record",
}
OUTSIDE = {"eval": "held-out evaluation", "save": "checkpoints"}
"""What the loop does between steps: not part of `time/step`."""


@dataclasses.dataclass(frozen=True)
class Part:
    """seconds: summed over all steps. share: of the time of all steps."""

    name: str
    label: str
    seconds: float
    share: float


@dataclasses.dataclass(frozen=True)
class Timings:
    """parts: in the order of a step, "the rest" last; they add up to total, the seconds of all steps. steps: how many were timed.

    outside: what happened between the steps; share is again of `total`.
    """

    parts: tuple[Part, ...]
    outside: tuple[Part, ...]
    total: float
    steps: int


def timings(run: RunFiles) -> Timings | None:
    """Shares of `time/step` over the steps that were timed; None where no step was.

    "the rest" is what no part claims; it is below zero only where parts overlap, and is then shown as it is.
    """
    rows = [row for row in run.metrics if finite(row.get("time/step")) and row["time/step"] > 0]
    total = sum(row["time/step"] for row in rows)
    if not rows:
        return None
    names = {name.removeprefix("time/") for row in rows for name in row if name.startswith("time/")} - {"step", *OUTSIDE}
    ordered = [name for name in LABELS if name in names] + sorted(names - set(LABELS))
    parts = [_part(rows, name, LABELS.get(name, name), total) for name in ordered]
    rest = total - sum(part.seconds for part in parts)
    between = [_part(run.metrics, name, label, total) for name, label in OUTSIDE.items()]
    return Timings(
        (*parts, Part("rest", "the rest", rest, rest / total)), tuple(part for part in between if part.seconds > 0), total, len(rows)
    )


def _part(rows: list[dict], name: str, label: str, total: float) -> Part:
    spent = float(sum(row[f"time/{name}"] for row in rows if finite(row.get(f"time/{name}"))))
    return Part(name, label, spent, spent / total)
