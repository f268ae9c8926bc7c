"""How a forecast fared: against the evaluations that came after its window, beside its two controls."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from burnish.rl.forecast.control import last_value, power_law
from burnish.rl.forecast.fit import Fit
from burnish.rl.forecast.intervals import prompt_weights


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Means over the last evaluations: what was forecast and what came. error: forecast less truth; se: its standard error by prompt.

    power_law, last_value: what the controls said of the same evaluations.
    """

    forecast: float
    truth: float
    se: float
    power_law: float
    last_value: float

    @property
    def error(self) -> float:
        """Forecast less truth."""
        return self.forecast - self.truth

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return dataclasses.asdict(self) | {"error": self.error}


def outcome(fit: Fit, share: float = 0.1, seed: int = 0) -> Outcome | None:
    """The forecast for the last `share` of all evaluations, and what they were; None where the fit was refused.

    se: from prompts drawn with replacement, forecast and truth from the same draw, since both were measured on the same prompts; NaN where
    no prompt's rate is known. The fit's own draws must have been made with the same `seed`.
    """
    if fit.curve is None:
        return None
    after = fit.points.compute > 0
    number = max(1, round(share * int(after.sum())))
    compute, rates = fit.points.compute[-number:], fit.points.rates[-number:]
    se = float("nan")
    if fit.by_prompt is not None and fit.points.items is not None:
        weights = prompt_weights(fit.points.items.shape[1], len(fit.by_prompt.a), seed)
        drawn = fit.by_prompt.at(compute).mean(1) - (weights @ fit.points.items[-number:].T).mean(1)
        se = float(drawn.std(ddof=1))
    law = power_law(fit.window.compute, fit.window.rates, fit.weights)
    return Outcome(float(np.mean(fit.curve(compute))), float(rates.mean()), se, float(np.mean(law(compute))), last_value(fit.window.rates))
