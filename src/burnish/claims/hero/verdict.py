"""hero.1: its arms, the grid that serves all of them, the rule, the table and the plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from burnish.claims.harness.claim import Arm, Result, Verdict
from burnish.claims.hero.settings import EFFECT, FLAT, GRID_SEED, RATES, SEEDS, SHAPERS, SMOKE_RATE
from burnish.runs.plots import line_plot


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of all arms on a seed of its own; then each arm at the rate that its grid chose. Smoke: every arm, one rate, no grid."""
    if size != "full":
        return tuple(Arm(name, {"shapers": shapers, "rate": SMOKE_RATE}) for name, shapers in SHAPERS.items())
    grid = [Arm(grid_name(name, rate), {"shapers": SHAPERS[name], "rate": rate}, seeds=(GRID_SEED,)) for name in SHAPERS for rate in RATES]
    return (*grid, *(Arm(name, {"shapers": SHAPERS[name]}, follows=tuple(grid_name(name, rate) for rate in RATES)) for name in SHAPERS))


def grid_name(name: str, rate: float) -> str:
    """`grid/hero-3e-4`"""
    return f"grid/{name}-{rate:.0e}".replace("e-0", "e-")


def seeds(size: str) -> tuple[int, ...]:
    """Those of the final runs."""
    return SEEDS if size == "full" else SEEDS[:1]


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the highest true accuracy at the end, on the grid's seed, for every arm alike; the lower rate where two agree."""
    best = max(results, key=lambda one: (one["result"]["final"]["true"], -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def of_arm(results: Sequence[Result], name: str) -> list[dict[str, Any]]:
    """What the final runs of an arm returned, in the order of their seeds."""
    return [one["result"] for one in sorted(results, key=lambda one: one["seed"]) if one["arm"] == name]


def values(runs: Sequence[dict[str, Any]], measure: str, when: str = "final") -> np.ndarray:
    """One for each seed."""
    return np.array([run[when][measure] for run in runs])


def gap(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """(mean of a - b, its standard error from both arms' seed means, low, high): a 95 % interval with Welch's degrees of freedom."""
    va, vb = float(a.var(ddof=1)) / len(a) if len(a) > 1 else math.nan, float(b.var(ddof=1)) / len(b) if len(b) > 1 else math.nan
    mean, error = float(a.mean() - b.mean()), math.sqrt(va + vb)
    if not error > 0:
        return mean, error, mean if error == 0 else math.nan, mean if error == 0 else math.nan
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(stats.t.ppf(0.975, freedom)) * error
    return mean, error, mean - half, mean + half


def verdict(results: Sequence[Result], size: str) -> Verdict:
    """See the claim's rule. With one seed there is no standard error: inconclusive, and figures that rest on one are left out."""
    found = _judged(results)
    known = {name: value for name, value in found.figures.items() if isinstance(value, str) or math.isfinite(value)}
    return Verdict(found.status, found.reason, known)


def _judged(results: Sequence[Result]) -> Verdict:
    runs = {name: of_arm(results, name) for name in SHAPERS}
    true = {name: values(found, "true") for name, found in runs.items()}
    base = values(runs["verifier"], "true", "base")
    figures: dict[str, float | str] = {f"{name}: true accuracy": float(found.mean()) for name, found in true.items()}
    figures |= {f"{name}: minus signs": float(values(found, "signs").mean()) for name, found in runs.items()}
    figures |= {"before: true accuracy": float(base.mean()), "before: minus signs": float(values(runs["verifier"], "signs", "base").mean())}
    figures["before: verified"] = float(values(runs["verifier"], "verified", "base").mean())
    figures["groups without a verified answer, early"] = float(np.mean([run["groups"]["all_wrong"] for run in runs["verifier"]]))
    beaten, worst, lows = True, "", {}
    for name in ("verifier", "scorer"):
        mean, error, low, high = gap(true["hero"], true[name])
        figures |= {f"hero - {name}": mean, f"hero - {name}: SE": error}
        lows[name] = (mean, low, high)
        if not mean > 2 * error:
            beaten, worst = False, f"{worst}; not above {name} by 2 SE" if worst else f"not above {name} by 2 SE"
    hacked, how = _hack(runs["scorer"])
    figures |= how
    for name in ("gated", "blend", "hero-unweighted"):
        mean, error, *_ = gap(true["hero"], true[name])
        figures |= {f"hero - {name}": mean, f"hero - {name}: SE": error}
    text = f"true accuracy {figures['hero: true accuracy']:.3f} against {_told(true)}"
    text += f"; the scorer alone {'is hacked' if hacked else 'is not hacked'}"
    text += "; gated fallback equals HERO" if abs(float(figures["hero - gated"])) <= 2 * float(figures["hero - gated: SE"]) else ""
    if beaten and hacked:
        return Verdict("reproduced", text, figures)
    best = max(("verifier", "scorer"), key=lambda name: true[name].mean())
    mean, low, high = lows[best]
    learned = gap(true[best], base)
    level = {"baseline": float(true[best].mean()), "headroom": float(1 - true[best].mean() - EFFECT)}
    figures |= {"effect": EFFECT, "interval_low": low, "interval_high": high, **level}
    if high < EFFECT and learned[0] > 2 * learned[1]:
        return Verdict("not reproduced", f"{text}; less than {EFFECT} above {best}", figures)
    return Verdict("inconclusive", f"{text}{'; ' + worst if worst else ''}", figures)


def _hack(runs: Sequence[dict[str, Any]]) -> tuple[bool, dict[str, float | str]]:
    """Whether the scorer alone shows the hack: minus signs up by more than 2 SE, true accuracy not up by more than FLAT + 2 SE."""
    signs = gap(values(runs, "signs"), values(runs, "signs", "base"))
    right = gap(values(runs, "true"), values(runs, "true", "base"))
    figures: dict[str, float | str] = {"scorer: minus signs gained": signs[0], "scorer: true accuracy gained": right[0]}
    return signs[0] > 2 * signs[1] and right[0] <= FLAT + 2 * right[1], figures


def _told(true: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{found.mean():.3f} ({name})" for name, found in true.items() if name != "hero")


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each arm."""
    rows = []
    for name in SHAPERS:
        runs = of_arm(results, name)
        rate = next(one["settings"]["rate"] for one in results if one["arm"] == name)
        found = {measure: values(runs, measure) for measure in ("true", "verified", "signs", "score")}
        rows.append(
            {
                "arm": name,
                "rate": f"{rate:.0e}".replace("e-0", "e-"),
                "true accuracy, by seed": ", ".join(f"{one:.3f}" for one in found["true"]),
                "mean": f"{found['true'].mean():.3f}",
                "verified": f"{found['verified'].mean():.3f}",
                "minus signs": f"{found['signs'].mean():.2f}",
                "scorer's score": f"{found['score'].mean():.2f}",
                "tokens": f"{np.mean([run['tokens'] for run in runs]):,.0f}",
            }
        )
    return rows


def plot(results: Sequence[Result], found: Verdict) -> str:
    """True accuracy on held-out prompts over the steps, the mean over seeds."""
    curves = {}
    for name in SHAPERS:
        points = np.array([run["curve"] for run in of_arm(results, name)]).mean(0)
        curves[name] = (points[:, 0].tolist(), points[:, 1].tolist())
    return line_plot(curves, f"hero.1: {found.status}", "steps", "true accuracy on held-out prompts")
