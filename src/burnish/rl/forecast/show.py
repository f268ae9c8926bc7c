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
    a, ahead = by_prompt(fit, found)
    return row | {
        "verdict": fit.verdict.text,
        "A [95 %]": a and {"mean": fit.curve.a, "low": a[0], "high": a[1]},
        "at": f"{at:.3g}",
        "forecast [95 %]": ahead and {"mean": found.rate, "low": ahead[0], "high": ahead[1]},
        "B": fit.curve.b,
        "C_mid": f"{fit.curve.c_mid:.3g}",
        "these prompts: A [80 %]": {"mean": fit.curve.a, "low": fit.a80[0], "high": fit.a80[1]},
        "these prompts: forecast [95 %]": {"mean": found.rate, "low": found.low, "high": found.high},
        "later points - curve": miss(fit),
    }


def by_prompt(fit: Fit, found: Forecast) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """95 % intervals of (A, the forecast) clustered by prompt; None where no prompt's own rate is known."""
    if fit.by_prompt is None or found.prompts_low is None or found.prompts_high is None:
        return None, None
    return fit.a95, (found.prompts_low, found.prompts_high)


def sentence(fit: Fit, at: float) -> str:
    """The forecast in words, the interval clustered by prompt first; "" where the fit was refused."""
    if fit.curve is None:
        return ""
    assert fit.a80 is not None
    found = fit.forecast(at)
    a, ahead = by_prompt(fit, found)
    out = f"{fit.points.name}: A {fit.curve.a:.3f}, at {at:.3g} {found.rate:.3f}"
    if a is not None and ahead is not None:
        out += f"; 95 % clustered by prompt: A {_span(a)}, forecast {_span(ahead)}"
    return f"{out}; these prompts: A {_span(fit.a80)} (80 %), forecast {_span((found.low, found.high))} (95 %)."


def _span(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def as_json(fit: Fit, at: float) -> dict[str, Any]:
    """JSON values; `curve` and `forecast` are null where the fit was refused."""
    window = [float(fit.window.compute[0]), float(fit.window.compute[-1])] if len(fit.window) else None
    out: dict[str, Any] = {"run": fit.points.name, "unit": fit.points.unit, "verdict": fit.verdict.text, "reason": fit.verdict.reason}
    out |= {"window": window, "evaluations_in_window": len(fit.window), "clustered_by_prompt": fit.points.items is not None}
    out |= dict.fromkeys(("curve", "intervals", "forecast", "a95", "a80"))
    out |= {"later_minus_curve": miss(fit), "controls": None}
    if fit.curve is None:
        return out
    found = fit.forecast(at)
    a, ahead = by_prompt(fit, found)
    return out | {
        "curve": fit.curve.to_dict(),
        "intervals": {
            "by_prompt": a and {"a95": a, "forecast95": ahead},
            "these_prompts": {"a80": fit.a80, "forecast95": (found.low, found.high)},
        },
        "forecast": found.to_dict(),
        "a95": fit.a95,
        "a80": fit.a80,
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
