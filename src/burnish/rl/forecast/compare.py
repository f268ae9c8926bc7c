"""Two runs by their ceilings and, where these are equal, by their efficiency. ScaleRL, section 3 (margin) and appendix.

Two runs that were asked the same prompts share their luck with them: drawn together, it cancels from the difference.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from burnish.rl.forecast.fit import Fit
from burnish.rl.forecast.free import Curves, fit_curves
from burnish.rl.forecast.intervals import DRAWS, FREEST, prompt_weights, residual_draws, spread
from burnish.rl.forecast.refusals import MARGIN


@dataclasses.dataclass(frozen=True)
class Comparison:
    """verdict: in words. a: both ceilings. a_common, b, c_mid, b_difference (second less first, 95 %): where the ceilings are equal.

    b_difference is clustered by prompt where both runs know the same prompts (clustered_by_prompt). b_difference_these_prompts: from
    residuals alone.
    """

    verdict: str
    a: tuple[float, float] | None = None
    a_common: float | None = None
    b: tuple[float, float] | None = None
    c_mid: tuple[float, float] | None = None
    b_difference: tuple[float, float] | None = None
    clustered_by_prompt: bool = False
    b_difference_these_prompts: tuple[float, float] | None = None

    @property
    def basis(self) -> str:
        """What the interval of B's difference rests on, for the end of a sentence; "" where there is none."""
        if self.b_difference is None:
            return ""
        kind = "clustered by prompt" if self.clustered_by_prompt else "these prompts only"
        return f" (difference of B {self.b_difference[0]:.3g} to {self.b_difference[1]:.3g}, 95 %, {kind})"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)


def compare(first: Fit, second: Fit, margin: float = MARGIN, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Ceilings further apart than `margin` differ. Else both are set to their mean, B and C_mid are fitted again, and B is compared.

    "no difference in B" where the bootstrap interval of its difference holds 0. A refused fit is not compared. Where both runs hold the
    same prompts the interval is that of prompts drawn once for both runs, widened to hold the one from residuals: prompts share out the
    luck that both runs have in common, residuals show how each run went up and down by itself, and neither knows of the other's.
    """
    names = [fit.points.name or f"run {place}" for place, fit in enumerate((first, second), 1)]
    if names[0] == names[1]:
        names = ["run 1", "run 2"]
    for name, fit in zip(names, (first, second)):
        if fit.curve is None:
            return Comparison(f"not comparable; {name}: {fit.verdict.text}")
    assert first.curve is not None
    assert second.curve is not None
    a = (first.curve.a, second.curve.a)
    if abs(a[0] - a[1]) > margin:
        return Comparison(f"A differs by more than {margin:g}; {names[int(a[1] > a[0])]} has the higher ceiling", a)
    common = (a[0] + a[1]) / 2
    refitted = [_refit(fit, common, draws, seed + place) for place, fit in enumerate((first, second))]
    (b1, c1, drawn1), (b2, c2, drawn2) = refitted
    these = difference = spread(drawn2 - drawn1, 0.95)
    joint = joint_draws(first, second, draws, seed)
    if joint is not None:
        wide = spread(joint[1].b - joint[0].b, 0.95)
        difference = (min(these[0], wide[0]), max(these[1], wide[1]))
    larger = "no difference in B" if difference[0] <= 0 <= difference[1] else f"{names[int(b2 > b1)]} has the larger B"
    return Comparison(f"same A; {larger}", a, common, (b1, b2), (c1, c2), difference, joint is not None, these)


def joint_draws(first: Fit, second: Fit, draws: int = DRAWS, seed: int = 0) -> tuple[Curves, Curves] | None:
    """Both runs' curves refitted to the same drawn prompts, both with the ceiling that is the mean of their two on these prompts.

    None where the runs do not know the same prompts by their ids.
    """
    ids = first.points.ids
    if ids is None or second.points.ids is None or len(ids) < 2 or sorted(ids) != sorted(second.points.ids):
        return None
    place = {name: column for column, name in enumerate(second.points.ids)}
    order = np.array([place[name] for name in ids])
    counts = prompt_weights(len(ids), draws, seed)
    drawn = [_drawn(first, counts, np.arange(len(ids))), _drawn(second, counts, order)]
    free = [_fitted(one, rates, starts, starts, FREEST) for one, (rates, starts) in zip((first, second), drawn)]
    common = np.maximum((free[0].a + free[1].a) / 2, np.maximum(drawn[0][1], drawn[1][1]))
    one, two = (_fitted(fit, rates, starts, common, common) for fit, (rates, starts) in zip((first, second), drawn))
    return one, two


def _drawn(fit: Fit, counts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rates [draws, n], starts [draws]) on drawn prompts; the start is the fit's own where it is not the one measured at compute 0."""
    assert fit.window.items is not None
    assert fit.curve is not None
    rate, items = fit.points.start()
    measured = items is not None and rate is not None and abs(rate - fit.curve.r0) < 1e-12
    starts = counts @ items[order] if measured and items is not None else np.full(len(counts), fit.curve.r0)
    return counts @ fit.window.items[:, order].T, starts


def _fitted(fit: Fit, rates: np.ndarray, starts: np.ndarray, low: np.ndarray, high: np.ndarray | float) -> Curves:
    return fit_curves(fit.window.compute, rates, starts, fit.weights, low, high)


def _refit(fit: Fit, a: float, draws: int, seed: int) -> tuple[float, float, np.ndarray]:
    """(B, C_mid, drawn values of B) with the ceiling held at `a`."""
    assert fit.curve is not None
    r0, window = fit.curve.r0, fit.window
    found = fit_curves(window.compute, window.rates[None, :], np.array([r0]), fit.weights, a, a)
    drawn = residual_draws(window, found.at(window.compute)[0], r0, fit.weights, draws, seed, a)
    return float(found.b[0]), float(found.c_mid[0]), drawn.b
