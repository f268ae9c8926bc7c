"""How the doctor's evidence is worded: shares, series from their beginning to their end, examples of completions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.rl.doctor.finding import TooLittle
from burnish.rl.doctor.reading import RunView, Sample, SampledGroup


def share(value: float) -> str:
    """0.8125 -> 81 %."""
    return f"{100 * value:.1f} %" if 0 < value < 0.1 or 0.9 < value < 1 else f"{100 * value:.0f} %"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def ends(steps: Sequence[int], values: Sequence[float], name: str, window: int = 5) -> str:
    """ "reward: 0.31 (steps 1 to 5) to 0.92 (steps 21 to 25)"."""
    n = min(window, max(1, len(values) // 3))
    first, last = float(np.mean(values[:n])), float(np.mean(values[-n:]))
    return f"{name}: {number(first)} (steps {steps[0]} to {steps[n - 1]}), then {number(last)} (steps {steps[-n]} to {steps[-1]})"


def quoted(text: str, most: int = 160) -> str:
    """A text as evidence, cut and on one line."""
    plain = repr(text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def example(group: SampledGroup, one: Sample) -> str:
    """One completion with its place and score."""
    success = "" if one.success is None else f", success {number(one.success)}"
    score = (
        f"invalid ({one.reason})" if one.invalid and one.reason else "invalid" if one.invalid else f"reward {number(one.reward)}{success}"
    )
    return f"step {group.step}, item {group.item}: {quoted(one.text)} ({score}, ended by {one.stop})"


def enough(run: RunView, stage: str, steps: int) -> None:
    """Raises TooLittle where the run is of another stage or shorter than `steps`."""
    if run.stage != stage:
        raise TooLittle(f"for stage {stage} only")
    if run.steps < steps:
        raise TooLittle(f"too short to tell: {run.steps} steps are done, {steps} are needed")


def late(values: Sequence[float]) -> list[float]:
    """The last third, at least five values where there are as many."""
    return list(values[-max(5, len(values) // 3) :])


def early(values: Sequence[float]) -> list[float]:
    """The first fifth, at least three values."""
    return list(values[: max(3, len(values) // 5)])
