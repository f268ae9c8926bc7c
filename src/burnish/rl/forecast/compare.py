"""Two runs by their ceilings and, where these are equal, by their efficiency. ScaleRL, section 3 (margin) and appendix."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from burnish.rl.forecast.fit import Fit
from burnish.rl.forecast.free import fit_curves
from burnish.rl.forecast.intervals import DRAWS, residual_draws, spread
from burnish.rl.forecast.refusals import MARGIN


@dataclasses.dataclass(frozen=True)
class Comparison:
    """verdict: in words. a: both ceilings. a_common, b, c_mid, b_difference (second less first, 95 %): where the ceilings are equal."""

    verdict: str
    a: tuple[float, float] | None = None
    a_common: float | None = None
    b: tuple[float, float] | None = None
    c_mid: tuple[float, float] | None = None
    b_difference: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dataclasses.asdict(self)


def compare(first: Fit, second: Fit, margin: float = MARGIN, draws: int = DRAWS, seed: int = 0) -> Comparison:
    """Ceilings further apart than `margin` differ. Else both are set to their mean, B and C_mid are fitted again, and B is compared.

    "no difference in B" where the bootstrap interval of its difference holds 0. A refused fit is not compared.
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
    difference = spread(drawn2 - drawn1, 0.95)
    larger = "no difference in B" if difference[0] <= 0 <= difference[1] else f"{names[int(b2 > b1)]} has the larger B"
    return Comparison(f"same A; {larger}", a, common, (b1, b2), (c1, c2), difference)


def _refit(fit: Fit, a: float, draws: int, seed: int) -> tuple[float, float, np.ndarray]:
    """(B, C_mid, drawn values of B) with the ceiling held at `a`."""
    assert fit.curve is not None
    r0, window = fit.curve.r0, fit.window
    found = fit_curves(window.compute, window.rates[None, :], np.array([r0]), fit.weights, a, a)
    drawn = residual_draws(window, found.at(window.compute)[0], r0, fit.weights, draws, seed, a)
    return float(found.b[0]), float(found.c_mid[0]), drawn.b
