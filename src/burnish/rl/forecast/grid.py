"""The published fit: a grid over A and C_mid, B by least squares in each cell, the best cell wins. ScaleRL, appendix on fitting.

Three free parameters at once are unstable, hence the grid. Its values are that paper's task's; `free.py` holds the fit used by default.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from burnish.rl.forecast.curve import Sigmoid, logistic

B_RANGE = (0.02, 40.0)
SCAN = 40
GOLDEN = (5**0.5 - 1) / 2


@dataclasses.dataclass(frozen=True)
class Grid:
    """a: ceilings, rising. c_mid: midpoints, rising."""

    a: np.ndarray
    c_mid: np.ndarray

    def at_edge(self, a: float) -> bool:
        """True where a ceiling is the grid's first or last."""
        return bool(a <= self.a[0] or a >= self.a[-1])


def published_grid() -> Grid:
    """A in {0.450, 0.455, ..., 0.800}, C_mid in 100 evenly spaced values on [100, 40000] (GPU-hours)."""
    return Grid(np.round(np.arange(0.45, 0.8001, 0.005), 3), np.linspace(100.0, 40000.0, 100))


def grid_fit(compute: np.ndarray, rates: np.ndarray, r0: float, grid: Grid, weights: np.ndarray | None = None) -> tuple[Sigmoid, float]:
    """(curve of the best cell, its weighted sum of squared residuals). compute, rates, weights: [n]."""
    w = np.ones(len(rates)) if weights is None else weights
    x = np.log(compute)[None, :] - np.log(grid.c_mid)[:, None]
    a = np.repeat(grid.a, len(grid.c_mid))
    x = np.tile(x, (len(grid.a), 1))

    def loss(log_b: np.ndarray) -> np.ndarray:
        fitted = r0 + (a - r0)[:, None] * logistic(np.exp(log_b)[:, None] * x)
        return ((rates - fitted) ** 2 * w).sum(1)

    low, high = bracket(loss, len(a))
    log_b, value = golden_section(loss, low, high)
    best = int(np.argmin(value))
    return Sigmoid(r0, float(a[best]), float(grid.c_mid[best % len(grid.c_mid)]), float(np.exp(log_b[best]))), float(value[best])


def bracket(loss, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """An interval of log B about the smallest of `SCAN` trial values, for each cell."""
    trial = np.linspace(np.log(B_RANGE[0]), np.log(B_RANGE[1]), SCAN)
    best, found = np.full(cells, np.inf), np.zeros(cells, dtype=np.int64)
    for index, value in enumerate(trial):
        here = loss(np.full(cells, value))
        found[here < best] = index
        best = np.minimum(best, here)
    return trial[np.maximum(found - 1, 0)], trial[np.minimum(found + 1, SCAN - 1)]


def golden_section(loss, low: np.ndarray, high: np.ndarray, steps: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """The minimum inside each [low, high]: (where, value)."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(steps):
        smaller = at_left < at_right
        high, low = np.where(smaller, right, high), np.where(smaller, low, left)
        kept, at_kept = np.where(smaller, left, right), np.where(smaller, at_left, at_right)
        fresh = np.where(smaller, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_fresh = loss(fresh)
        left, right = np.where(smaller, fresh, kept), np.where(smaller, kept, fresh)
        at_left, at_right = np.where(smaller, at_fresh, at_kept), np.where(smaller, at_kept, at_fresh)
    return np.where(at_left < at_right, left, right), np.minimum(at_left, at_right)
