"""How a metric changed over a run, held against its own scatter from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.rl.doctor.words import late


def change(values: Sequence[float], first: int | None = None) -> tuple[float, float]:
    """(late mean less early mean, the same in standard errors). late: the last third; early: the first values, an eighth by default.

    The scatter is taken from neighbouring steps, mean square of differences / 2, so that a trend does not count as scatter.
    Needs at least four values.
    """
    x = np.asarray(values, dtype=np.float64)
    begun, ended = x[: first or max(3, len(x) // 8)], np.asarray(late(list(values)))
    scatter = float(np.sqrt(np.mean(np.diff(x) ** 2) / 2))
    error = scatter * (1 / len(begun) + 1 / len(ended)) ** 0.5
    difference = float(ended.mean() - begun.mean())
    return difference, difference / max(error, 1e-9)
