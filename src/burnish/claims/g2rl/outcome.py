"""What g2rl.1 says: paired differences between arms, the verdict, the table, the plot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.claims.g2rl.settings import ARMS
from burnish.claims.harness.claim import Result, Verdict
from burnish.runs.plots import line_plot

EFFECT = 0.02
"""Rise of pass@16 that is claimed: 86.6 to 88.7 on MATH500 with the smaller model, the least of its figures but one."""
EFFECT_DISTINCT = 0.25
"""A rise of the different right answers in 16 that would count; the paper has no figure for it."""
LEARNED = 0.2
"""By so much GRPO's pass@1 must have risen, or it is no baseline."""
CONTROLS = ("grpo", "random-nubar")
JUDGED = "g2rl-text"


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two arms in one measure: mean of the paired differences over seeds, and the larger of two standard errors: that over seeds
    and that over held-out pairs (each pair's difference averaged over the seeds)."""

    mean: float
    se: float

    @property
    def low(self) -> float:
        """Mean - 2 SE."""
        return self.mean - 2 * self.se

    @property
    def high(self) -> float:
        """Mean + 2 SE."""
        return self.mean + 2 * self.se


def of_arm(results: Sequence[Result], name: str) -> list[dict[str, Any]]:
    """What the runs of an arm returned, in the order of their seeds."""
    return [one["result"] for one in sorted(results, key=lambda one: one["seed"]) if one["arm"] == name]


def difference(results: Sequence[Result], arm: str, other: str, measure: str) -> Difference:
    """arm - other. One seed alone has no spread over seeds."""
    a, b = (np.array([run["by_pair"][measure] for run in of_arm(results, name)], dtype=np.float64) for name in (arm, other))
    gaps = a - b  # [seeds, pairs]
    errors = [float(one.std(ddof=1)) / math.sqrt(len(one)) for one in (gaps.mean(1), gaps.mean(0)) if len(one) > 1]
    return Difference(float(gaps.mean()), max(errors, default=math.inf))


def checks(results: Sequence[Result], arm: str) -> dict[str, bool]:
    """The conditions of the rule for one reading."""
    out = {}
    for measure in ("pass@16", "distinct"):
        for control in CONTROLS:
            out[f"{measure} above {control}"] = difference(results, arm, control, measure).low > 0
    out["pass@1 not below grpo"] = difference(results, arm, "grpo", "pass@1").high >= 0
    out["mean cosine below grpo"] = difference(results, arm, "grpo", "mean_cosine").mean < 0
    return out


def verdict(results: Sequence[Result], size: str) -> Verdict:
    """See the claim's rule."""
    met = {arm: checks(results, arm) for arm in (JUDGED, "g2rl-formula")}
    figures: dict[str, float | str] = {}
    for arm in (JUDGED, "g2rl-formula"):
        for measure in ("pass@1", "pass@16", "distinct", "mean_cosine"):
            for control in CONTROLS:
                found = difference(results, arm, control, measure)
                figures[f"{arm} - {control}: {measure}"] = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    grpo = of_arm(results, "grpo")
    gained = _mean(run["final"]["pass@1"] - run["base"]["pass@1"] for run in grpo)
    headroom = 1 - _mean(run["final"]["pass@16"] for run in grpo)
    figures |= {"gain of grpo in pass@1": round(gained, 4), "headroom of grpo in pass@16": round(headroom, 4)}
    if all(met[JUDGED].values()):
        return Verdict("reproduced", "the text reading meets every condition" + _also(met["g2rl-formula"]), figures)
    missing = ", ".join(name for name, fine in met[JUDGED].items() if not fine)
    reason = f"the text reading fails: {missing}" + _also(met["g2rl-formula"])
    excluded = [control for control in CONTROLS if _excluded(results, control)]
    if excluded and gained >= LEARNED and headroom >= EFFECT and not all(met["g2rl-formula"].values()):
        found = difference(results, JUDGED, excluded[0], "pass@16")
        figures |= {
            "effect": EFFECT,
            "interval_low": round(found.low, 5),
            "interval_high": round(found.high, 5),
            "baseline": round(_mean(run["final"]["pass@16"] for run in of_arm(results, excluded[0])), 4),
            "headroom": round(headroom, 4),
        }
        return Verdict("not reproduced", f"no more than {excluded[0]}; {reason}", figures)
    return Verdict("inconclusive", reason, figures)


def _also(met: dict[str, bool]) -> str:
    return f"; the formula reading meets {sum(met.values())} of {len(met)}"


def _excluded(results: Sequence[Result], control: str) -> bool:
    """Whether the claimed rise over this control is ruled out in both measures."""
    return all(
        difference(results, JUDGED, control, measure).high < effect
        for measure, effect in (("pass@16", EFFECT), ("distinct", EFFECT_DISTINCT))
    )


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each arm: means over seeds of the final held-out measures; before: those of the base."""
    rows = []
    for name in ARMS:
        runs = of_arm(results, name)
        if not runs:
            continue
        own = next(one["settings"] for one in results if one["arm"] == name)
        rows.append({"arm": name, "rate": f"{own['rate']:g}" + (f", eta {own['eta']:g}" if own["eta"] else ""), **_cells(runs, "final")})
        rows[-1]["steps to 0.8"] = ", ".join("–" if run["to_target"] is None else str(run["to_target"]) for run in runs)
    base = [run for name in ARMS for run in of_arm(results, name)]
    return [{"arm": "before", "rate": "", **_cells(base, "base"), "steps to 0.8": ""}, *rows] if rows else []


COLUMNS = ("pass@1", "pass@16", "distinct", "mean_cosine", "negative_share", "effective_rank", "text_cosine")


def _cells(runs: Sequence[dict[str, Any]], when: str) -> dict[str, str]:
    out = {}
    for name in COLUMNS:
        values = [run[when][name] for run in runs]
        out[name] = f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if when == "final" and len(values) > 1 else "")
    return out


def plot(results: Sequence[Result], found: Verdict) -> str:
    """Different right answers in 16 against pass@1, on the way: the mean over seeds."""
    curves = {}
    for name in ARMS:
        runs = of_arm(results, name)
        if runs:
            points = np.array([run["curve"] for run in runs], dtype=np.float64).mean(0)
            curves[name] = (points[:, 1].tolist(), points[:, 3].tolist())
    return line_plot(curves, "Diversity against accuracy, from the same base", "held-out pass@1", "different right answers in 16")


def _mean(values: Any) -> float:
    found = list(values)
    return float(np.mean(found)) if found else math.nan
