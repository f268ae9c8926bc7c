"""Controls of a forecast, fitted to the same window: a power law, and the last value carried forward."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from burnish.rl.forecast.curve import PowerLaw

B_GRID = np.geomspace(0.005, 10.0, 200)


def power_law(compute: np.ndarray, rates: np.ndarray, weights: np.ndarray | None = None, most: float = 1.0) -> PowerLaw:
    """A - D / C^B by weighted least squares, A at most `most` (no pass rate exceeds 1) and D at least 0."""
    w = np.ones(len(rates)) if weights is None else weights
    unit = float(np.exp(np.log(compute).mean()))  # keeps C^B near 1

    def solve(b: float) -> tuple[float, float, float]:
        z = (compute / unit) ** -b
        basis = np.stack([np.ones_like(z), -z], 1) * np.sqrt(w)[:, None]
        a, d = np.linalg.lstsq(basis, rates * np.sqrt(w), rcond=None)[0]
        if a > most:
            a, d = most, ((most - rates) * z * w).sum() / (z * z * w).sum()
        if d < 0:
            a, d = min(most, (rates * w).sum() / w.sum()), 0.0
        return float(a), float(d), float((((rates - a + d * z) ** 2) * w).sum())

    losses = [solve(b)[2] for b in B_GRID]
    best = int(np.argmin(losses))
    around = (np.log(B_GRID[max(best - 1, 0)]), np.log(B_GRID[min(best + 1, len(B_GRID) - 1)]))
    b = float(np.exp(minimize_scalar(lambda log_b: solve(float(np.exp(log_b)))[2], bounds=around, method="bounded").x))
    if solve(b)[2] > losses[best]:
        b = float(B_GRID[best])
    a, d, _ = solve(b)
    return PowerLaw(a, d * unit**b, b)


def last_value(rates: np.ndarray, share: float = 0.1) -> float:
    """The mean of the window's last points (this share of them, at least one)."""
    return float(np.mean(rates[-max(1, round(share * len(rates))) :]))
