"""`fit(points)`: the curve of a window of evaluations with its intervals, or the reason why there is none; and forecasts from it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from burnish.rl.forecast import refusals
from burnish.rl.forecast.curve import Sigmoid
from burnish.rl.forecast.free import Curves, fit_curves
from burnish.rl.forecast.grid import Grid, grid_fit
from burnish.rl.forecast.intervals import DRAWS, prompt_draws, residual_draws, spread
from burnish.rl.forecast.points import Points
from burnish.rl.forecast.refusals import Verdict
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Forecast:
    """The pass rate at some compute.

    prompts_low, prompts_high: 95 % for prompts like these, clustered by prompt: the interval to quote, None where no prompt's own rate is
    known. low, high: 95 % on these prompts, from residuals alone, for what the same prompts will show later.
    """

    compute: float
    rate: float
    low: float
    high: float
    prompts_low: float | None = None
    prompts_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, the interval clustered by prompt before that of these prompts."""
        found = dataclasses.asdict(self)
        return {key: found[key] for key in ("compute", "rate", "prompts_low", "prompts_high", "low", "high")}


@dataclasses.dataclass(frozen=True)
class Fit:
    """What a window says. curve, a80 and draws are None where the verdict is not "forecastable": a refused fit holds no number.

    points: all evaluations. window: those fitted. weights [n]: 1 / variance.
    a95: 95 % interval of A for prompts like these, clustered by prompt where each prompt's rate is known: the interval to quote. Without
    these rates it is of these prompts, as a80 is.
    a80: 80 % interval of A on these prompts, from residuals alone. It is what refusals are made of (`refusals.WIDEST`) and no statement
    about other prompts.
    """

    points: Points
    window: Points
    weights: np.ndarray
    verdict: Verdict
    curve: Sigmoid | None = None
    a80: tuple[float, float] | None = None
    a95: tuple[float, float] | None = None
    draws: Curves | None = None
    by_prompt: Curves | None = None

    @property
    def forecastable(self) -> bool:
        """True where a forecast may be given."""
        return self.curve is not None

    def forecast(self, compute: float) -> Forecast:
        """The pass rate at `compute`. Raises UserError with the verdict where there is no forecast."""
        if self.curve is None or self.draws is None:
            name = f"{self.points.name}: " if self.points.name else ""
            raise UserError(f"{name}no forecast, {self.verdict.text}: {self.verdict.reason}")
        at = np.array([compute], dtype=np.float64)
        low, high = _share(spread(self.draws.at(at)[:, 0], 0.95))
        wide = None if self.by_prompt is None else _share(spread(self.by_prompt.at(at)[:, 0], 0.95))
        rest = (None, None) if wide is None else (min(low, wide[0]), max(high, wide[1]))
        return Forecast(float(compute), float(self.curve(compute)), low, high, *rest)

    def band(self, compute: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """95 % on these prompts at many computes: (low, high). Empty arrays where there is no forecast."""
        if self.draws is None:
            return np.zeros(0), np.zeros(0)
        low, high = np.quantile(self.draws.at(compute), [0.025, 0.975], axis=0)
        return np.clip(low, 0, 1), np.clip(high, 0, 1)


def fit(
    points: Points,
    r0: float | Literal["start", "fit"] = "start",
    until: float | None = None,
    drop_before: float = 0.0,
    grid: Grid | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Fit:
    """Fits R(C) to the points with drop_before <= C <= until.

    r0: the pass rate before RL: "start" (the evaluation at compute 0), a number, or "fit" (a fourth parameter).
    grid: the published procedure on its grid; None: A between the largest smoothed pass rate (less 3 standard errors) and 1, C_mid
    logarithmic, everything by least squares. Both weigh each point with 1 / variance (`Points.variances`).
    Raises UserError where r0 is "start" and nothing was measured at compute 0.
    """
    start, items0 = points.start()
    if r0 == "start" and start is None:
        name = points.name or "the evaluations"
        raise UserError(f"{name}: none was made at compute 0, before RL; give the pass rate there (--r0 0.25) or --r0 fit")
    rate0 = start if r0 == "start" else None if r0 == "fit" else float(r0)
    items0 = items0 if r0 == "start" else None
    window = points.between(drop_before, points.compute[-1] if until is None else until)
    if len(window) == 0:
        return Fit(points, window, np.ones(0), Verdict(refusals.TOO_FEW, "no evaluation lies in the window"))
    weights = 1.0 / window.variances()
    weights = weights / weights.mean()
    if refused := refusals.before_fitting(window, rate0, items0):
        return Fit(points, window, weights, refused)
    curve, edge = _curve(window, rate0, weights, grid)
    fitted = np.asarray(curve(window.compute))
    drawn = residual_draws(window, fitted, rate0, weights, draws, seed)
    others = prompt_draws(window, items0, rate0, weights, draws, seed)
    verdict = refusals.after_fitting(window, curve, _width(window, drawn, others), edge)
    if verdict.text != refusals.FORECASTABLE:
        return Fit(points, window, weights, verdict)
    a95 = spread(drawn.a if others is None else others.a, 0.95)
    return Fit(points, window, weights, verdict, curve, _share(spread(drawn.a, 0.8)), _share(a95), drawn, others)


def _curve(window: Points, r0: float | None, weights: np.ndarray, grid: Grid | None) -> tuple[Sigmoid, bool]:
    """(the fitted curve, whether A sits on the edge of its range)."""
    if grid is not None and r0 is not None:
        found, _ = grid_fit(window.compute, window.rates, r0, grid, weights)
        return found, grid.at_edge(found.a)
    if grid is not None:
        raise UserError("the published grid does not fit R0; give it as a number or measure it at compute 0")
    smooth = window.smoothed()
    error = window.noise() / np.sqrt(window.width)
    low, high = float(np.clip(smooth.max() - 3 * error, 0.0, 1.0)), 1.0
    fitted = fit_curves(window.compute, window.rates[None, :], None if r0 is None else np.array([r0]), weights, low, high)
    curve = Sigmoid(float(fitted.r0[0]), float(fitted.a[0]), float(fitted.c_mid[0]), float(fitted.b[0]))
    return curve, refusals.at_edge(curve.a, low, high, window)


def _width(window: Points, drawn: Curves, others: Curves | None) -> float:
    """Width of the 80 % interval of A on these prompts, not clustered by prompt: the wider of two.

    A refusal asks whether the window pins down the ceiling of the curve that was measured. More or other prompts do not change that: a
    window that ends too early is too short for every set of prompts.

    One from residuals. The other from drawn prompts, of what is still to come, A - R(end of window): a set of prompts that is easier or
    harder throughout moves both alike and is no obstacle to a forecast for it.
    """
    low, high = spread(drawn.a, 0.8)
    if others is None:
        return high - low
    left = others.a - others.at(window.compute[-1:])[:, 0]
    other_low, other_high = spread(left, 0.8)
    return max(high - low, other_high - other_low)


def _share(interval: tuple[float, float]) -> tuple[float, float]:
    return min(1.0, max(0.0, interval[0])), min(1.0, max(0.0, interval[1]))
