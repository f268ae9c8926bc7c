"""The default fit: A, C_mid and B by weighted least squares, from the best point of a grid; many curves at once, for the bootstrap."""

from __future__ import annotations

import dataclasses

import numpy as np

from burnish.rl.forecast.curve import logistic

B_GRID = np.geomspace(0.1, 20.0, 48)
B_LOW, B_HIGH = 0.05, 40.0
C_POINTS = 64
BLOCK = 64


@dataclasses.dataclass(frozen=True)
class Curves:
    """Fitted curves, each array [curves]; sse: weighted sums of squared residuals."""

    r0: np.ndarray
    a: np.ndarray
    c_mid: np.ndarray
    b: np.ndarray
    sse: np.ndarray

    def at(self, compute: np.ndarray) -> np.ndarray:
        """Pass rates [curves, points]."""
        x = self.b[:, None] * (np.log(compute)[None, :] - np.log(self.c_mid)[:, None])
        return self.r0[:, None] + (self.a - self.r0)[:, None] * logistic(x)


def fit_curves(
    compute: np.ndarray,
    rates: np.ndarray,
    r0: np.ndarray | None,
    weights: np.ndarray,
    low: np.ndarray | float,
    high: np.ndarray | float,
) -> Curves:
    """One curve for each row of rates [curves, n] over compute [n].

    r0 [curves]: the starts; None fits them, too. low, high: bounds of A; where they are equal, A is fixed.
    A (and R0) are linear given C_mid and B, so the grid is over those two alone, C_mid spaced logarithmically; then Gauss-Newton steps.
    """
    n = len(rates)
    low, high = np.broadcast_to(np.asarray(low, float), n), np.broadcast_to(np.asarray(high, float), n)
    log_c = np.log(compute)
    middles = np.linspace(log_c[0] - np.log(4.0), log_c[-1] + np.log(20.0), C_POINTS)
    cells = np.array([(u, np.log(b)) for u in middles for b in B_GRID])
    shape = logistic(np.exp(cells[:, 1])[:, None] * (log_c[None, :] - cells[:, 0][:, None]))
    parts = []
    for start in range(0, n, BLOCK):
        here = slice(start, start + BLOCK)
        begin = _best_cells(shape, cells, rates[here], None if r0 is None else r0[here], weights, low[here], high[here])
        limits = (middles[0], middles[-1], low[here], high[here])
        parts.append(_polish(log_c, rates[here], weights, begin, limits, r0 is None))
    theta, sse = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return Curves(theta[:, 3], theta[:, 0], np.exp(theta[:, 1]), np.exp(theta[:, 2]), sse)


def _best_cells(shape, cells, rates, r0, w, low, high) -> np.ndarray:
    """The best start of each curve [curves, 4]: A, log C_mid, log B, R0."""
    gg, g1 = (shape * shape * w).sum(1), (shape * w).sum(1)
    if r0 is None:  # A and R0 by two normal equations in (1 - g) and g
        hh, gh = (((1 - shape) ** 2) * w).sum(1), (shape * (1 - shape) * w).sum(1)
        yg, yh = (rates * w) @ shape.T, (rates * w) @ (1 - shape).T
        det = np.maximum(gg * hh - gh**2, 1e-12 * gg * hh + 1e-300)
        starts = np.clip((gg * yh - gh * yg) / det, 0.0, 1.0)
    else:
        starts = np.broadcast_to(r0[:, None], (len(rates), len(cells)))
    # residual = (y - R0) - (A - R0) g: everything from sums over points
    y1, yy, total = (rates * w).sum(1), (rates * rates * w).sum(1), w.sum()
    cross = (rates * w) @ shape.T - starts * g1
    square = yy[:, None] - 2 * starts * y1[:, None] + starts**2 * total
    gain = np.clip(cross / np.maximum(gg, 1e-300), low[:, None] - starts, high[:, None] - starts)
    sse = square - 2 * gain * cross + gain**2 * gg
    best = np.argmin(sse, axis=1)
    row = np.arange(len(rates))
    return np.stack([starts[row, best] + gain[row, best], cells[best, 0], cells[best, 1], starts[row, best]], axis=1)


def _polish(log_c, rates, w, theta, limits, with_r0: bool, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt steps inside the limits, each curve with its own damping; never worse than where it began."""
    first, last, low, high = limits
    bounds_low = np.stack([low, np.full_like(low, first), np.full_like(low, np.log(B_LOW)), np.zeros_like(low)], 1)
    bounds_high = np.stack([high, np.full_like(low, last), np.full_like(low, np.log(B_HIGH)), np.ones_like(low)], 1)
    size = 4 if with_r0 else 3
    damping = np.full(len(theta), 1e-3)
    residual, jacobian = _residuals(log_c, rates, theta, size)
    sse = (residual**2 * w).sum(1)
    for _ in range(steps):
        gradient = np.einsum("snk,sn->sk", jacobian, residual * w)
        held = ((theta <= bounds_low) & (gradient_up(gradient) < 0) | (theta >= bounds_high) & (gradient_up(gradient) > 0))[:, :size]
        free = jacobian * ~held[:, None, :]
        normal = np.einsum("snk,n,snl->skl", free, w, free)
        ridge = np.einsum("skk->sk", normal)
        normal = normal + np.eye(size) * (damping[:, None] * ridge + 1e-14 + held)[:, None, :]
        step = np.linalg.solve(normal, np.where(held, 0.0, gradient)[:, :, None])[:, :, 0]
        trial = theta.copy()
        trial[:, :size] = np.clip(theta[:, :size] + step, bounds_low[:, :size], bounds_high[:, :size])
        new_residual, new_jacobian = _residuals(log_c, rates, trial, size)
        new_sse = (new_residual**2 * w).sum(1)
        better = new_sse < sse
        settled = np.abs(sse - new_sse) <= 1e-12 * (sse + 1e-300)
        theta = np.where(better[:, None], trial, theta)
        residual, jacobian = np.where(better[:, None], new_residual, residual), np.where(better[:, None, None], new_jacobian, jacobian)
        sse = np.where(better, new_sse, sse)
        damping = np.clip(np.where(better, damping * 0.3, damping * 5.0), 1e-12, 1e8)
        if np.all(settled | (damping >= 1e8)):
            break
    return theta, sse


def gradient_up(gradient: np.ndarray) -> np.ndarray:
    """The direction in which each of the four parameters wants to go; 0 for R0 where it is not fitted."""
    return np.pad(gradient, ((0, 0), (0, 4 - gradient.shape[1])))


def _residuals(log_c, rates, theta, size: int) -> tuple[np.ndarray, np.ndarray]:
    """rates - curve [curves, n] and the curve's derivatives [curves, n, size] by A, log C_mid, log B (and R0)."""
    b = np.exp(theta[:, 2])[:, None]
    x = log_c[None, :] - theta[:, 1][:, None]
    g = logistic(b * x)
    gain = (theta[:, 0] - theta[:, 3])[:, None]
    slope = gain * g * (1 - g) * b
    columns = [g, -slope, slope * x, 1 - g][:size]
    return rates - (theta[:, 3][:, None] + gain * g), np.stack(columns, axis=2)
