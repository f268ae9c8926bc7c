"""A forecast for people and machines: rows of a table, JSON values, and the plot with the window, the curve and the later points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.rl.forecast.control import last_value, power_law
from burnish.rl.forecast.fit import Fit, Forecast
from burnish.runs import plots


def later(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """(compute, rates) of the evaluations after the window."""
    end = fit.window.compute[-1] if len(fit.window) else 0.0
    after = fit.points.compute > end
    return fit.points.compute[after], fit.points.rates[after]


def miss(fit: Fit) -> float | None:
    """Mean difference of the later points from the curve (observed less forecast); None without a forecast or later points."""
    compute, rates = later(fit)
    if fit.curve is None or not len(compute):
        return None
    return float(np.mean(rates - fit.curve(compute)))


def table_row(fit: Fit, at: float) -> dict[str, Any]:
    """One line of the table. A refused fit has a verdict and nothing else: not one number of its curve."""
    row: dict[str, Any] = {"run": fit.points.name, "evaluations": f"{len(fit.window)} of {int((fit.points.compute > 0).sum())}"}
    if fit.curve is None:
        return row | {"verdict": fit.verdict.text}
    assert fit.a80 is not None
    found = fit.forecast(at)
    return row | {
        "verdict": fit.verdict.text,
        "A [80 %]": {"mean": fit.curve.a, "low": fit.a80[0], "high": fit.a80[1]},
        "B": fit.curve.b,
        "C_mid": f"{fit.curve.c_mid:.3g}",
        "at": f"{at:.3g}",
        "forecast [95 %]": {"mean": found.rate, "low": found.low, "high": found.high},
        "other prompts [95 %]": _wide(found),
        "later points - curve": miss(fit),
    }


def _wide(found: Forecast) -> dict[str, float] | None:
    if found.prompts_low is None or found.prompts_high is None:
        return None
    return {"mean": found.rate, "low": found.prompts_low, "high": found.prompts_high}


def as_json(fit: Fit, at: float) -> dict[str, Any]:
    """JSON values; `curve` and `forecast` are null where the fit was refused."""
    window = [float(fit.window.compute[0]), float(fit.window.compute[-1])] if len(fit.window) else None
    out: dict[str, Any] = {"run": fit.points.name, "unit": fit.points.unit, "verdict": fit.verdict.text, "reason": fit.verdict.reason}
    out |= {"window": window, "evaluations_in_window": len(fit.window), "clustered_by_prompt": fit.points.items is not None}
    out |= {"curve": None, "a80": None, "a95": None, "forecast": None, "later_minus_curve": miss(fit), "controls": None}
    if fit.curve is None:
        return out
    return out | {
        "curve": fit.curve.to_dict(),
        "a80": fit.a80,
        "a95": fit.a95,
        "forecast": fit.forecast(at).to_dict(),
        "controls": controls(fit, at),
    }


def controls(fit: Fit, at: float) -> dict[str, float]:
    """What a power law and the last value say of `at`, from the same window."""
    law = power_law(fit.window.compute, fit.window.rates, fit.weights)
    return {"power_law": float(law(at)), "last_value": last_value(fit.window.rates)}


def plot(fits: Sequence[Fit], at: float | None = None, title: str = "", control: bool = False) -> str:
    """SVG text: points of the window filled, later ones hollow, the curve with its 95 % band; a refused run has points only.

    at: how far the curves are drawn. control: the power law of each window, dashed.
    """
    curves, bands, marks = {}, {}, []
    for place, fit in enumerate(fits):
        name = fit.points.name or "pass rate"
        colour = plots.COLOURS[place % len(plots.COLOURS)]
        marks.append(plots.Marks(list(fit.window.compute), list(fit.window.rates), colour, filled=True, label=f"{name}: fitted"))
        beyond = later(fit)
        if len(beyond[0]):
            marks.append(plots.Marks(list(beyond[0]), list(beyond[1]), colour, filled=False, label=f"{name}: later"))
        if not len(fit.window):
            continue
        end = max(fit.points.compute[-1], at or 0.0)
        x = np.geomspace(fit.window.compute[0], end, 120)
        if fit.curve is None:
            curves[f"{name}: {fit.verdict.text}"] = ([float(x[0])], [math.nan])
            continue
        low, high = fit.band(x)
        curves[name] = (list(x), list(fit.curve(x)))
        bands[name] = (list(low), list(high))
        if control:
            law = power_law(fit.window.compute, fit.window.rates, fit.weights)
            curves[f"{name}: power law"] = (list(x), list(np.clip(law(x), 0, 1)))
    until = [float(fit.window.compute[-1]) for fit in fits if len(fit.window)]
    unit = fits[0].points.unit if fits else "compute"
    return plots.line_plot(curves, title, unit, "held-out pass rate", bands, marks=marks, vlines=sorted(set(until)))
