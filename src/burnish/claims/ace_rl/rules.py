"""ace-rl.1's arms, its rule, its table and its plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.claims.ace_rl.settings import ARMS, GRID_SEED, RATES, SEEDS, numbers
from burnish.claims.harness.claim import Arm, Result, Verdict
from burnish.runs.plots import bar_plot

SPREAD = "step-0"
RATIO = 1.5
"""How much farther the checklist's rewards must lie apart inside a group than the holistic judge's."""
EFFECT = 0.05
"""The gain in satisfaction over the holistic judge that the paper's 7 % on its benchmark stand for; what "not reproduced" must exclude."""
ERRORS = 2.0
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}
"""Quantiles of Student's t for a 95 % interval of a mean of n values."""


def arms(size: str) -> tuple[Arm, ...]:
    """What the judges tell apart at step 0; the grid of all arms on its own seed; then each arm at the rate that its grid chose."""
    rates = RATES if size == "full" else RATES[:1]
    grid = [Arm(grid_name(arm, rate), {"arm": arm, "rate": rate}, seeds=(GRID_SEED,)) for arm in ARMS for rate in rates]
    follows = {arm: tuple(grid_name(arm, rate) for rate in rates) for arm in ARMS}
    return (Arm(SPREAD), *grid, *(Arm(arm, {"arm": arm}, follows=follows[arm]) for arm in ARMS))


def grid_name(arm: str, rate: float) -> str:
    """`grid/checklist-1e-3`"""
    return f"grid/{arm}-{rate:.0e}".replace("e-0", "e-")


def seeds(size: str) -> tuple[int, ...]:
    """Of the final runs."""
    return SEEDS if size == "full" else SEEDS[:1]


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the highest satisfaction on the grid's seed, for every arm; the lower rate where two agree."""
    best = max(results, key=lambda one: (one["result"]["final"]["satisfaction"], -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def shared(seed: int, folder: Path, size: str) -> None:
    """The base model and the self-verifier of a seed."""
    from burnish.claims.ace_rl.training import make_base

    make_base(numbers(size), seed, folder)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """One arm with one seed."""
    from burnish.claims.ace_rl.training import spreads, train_and_measure

    if arm.name == SPREAD:
        return spreads(numbers(size), seed, folder)
    return train_and_measure(arm.settings["arm"], arm.settings["rate"], numbers(size), seed, folder)


def of_arm(results: Sequence[Result], name: str) -> list[dict[str, Any]]:
    """What the runs of an arm returned, in the order of their seeds."""
    return [one["result"] for one in sorted(results, key=lambda one: one["seed"]) if one["arm"] == name]


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def error(values: Sequence[float]) -> float:
    """Standard error of the mean over seeds; 0 for one."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 %, Student's t over seeds."""
    half = STUDENT.get(len(values), 2.0) * error(values)
    return mean(values) - half, mean(values) + half


def compared(results: Sequence[Result]) -> dict[str, list[float]]:
    """By seed: the gain in satisfaction, the ratio of spreads at step 0, and what leaving the length out does to the length error."""
    runs = {arm: of_arm(results, arm) for arm in ARMS}
    final = {arm: [one["final"] for one in runs[arm]] for arm in ARMS}
    start = of_arm(results, SPREAD)
    without = [one["length_error"] for one in final["no-length"]]
    return {
        "gain": [a["satisfaction"] - b["satisfaction"] for a, b in zip(final["checklist"], final["holistic"])],
        "ratio": [one["std"]["checklist"] / max(one["std"]["holistic"], 1e-12) for one in start],
        "against_length": [a - b["length_error"] for a, b in zip(without, final["checklist"])],
        "against_start": [a - one["base"]["length_error"] for a, one in zip(without, runs["no-length"])],
    }


def figures_of(results: Sequence[Result]) -> dict[str, float | str]:
    """What the verdict rests on."""
    out: dict[str, float | str] = {}
    for arm in ARMS:
        runs = of_arm(results, arm)
        for name in ("satisfaction", "length_error"):
            out[f"{arm}: {name.replace('_', ' ')}"] = round(mean([one["final"][name] for one in runs]), 4)
        out[f"{arm}: zero-variance groups"] = round(mean([one["zero"] for one in runs]), 4)
        start = of_arm(results, SPREAD)
        out[f"{arm}: std in groups at step 0"] = round(mean([one["std"][arm] for one in start]), 4)
        out[f"{arm}: zero-variance groups at step 0"] = round(mean([one["zero"][arm] for one in start]), 4)
    base = [one["base"] for arm in ARMS for one in of_arm(results, arm)]
    out |= {f"before: {name.replace('_', ' ')}": round(mean([one[name] for one in base]), 4) for name in ("satisfaction", "length_error")}
    out["self-verifier: right grades"] = round(mean([one["verifier"] for one in of_arm(results, SPREAD)]), 4)
    parts = [one["std_of"] for one in of_arm(results, SPREAD)]
    alone = [one["checklist: ace_rl/checklist"] / max(one["holistic: holistic"], 1e-12) for one in parts]
    out["ratio of stds without the length term"] = round(mean(alone), 4)
    for name, values in compared(results).items():
        label = {"gain": "gain over holistic", "ratio": "ratio of stds"}.get(
            name, f"length error without the term {name.replace('_', ' ')}"
        )
        out |= {label: round(mean(values), 4), f"{label}: SE": round(error(values), 4)}
    return out


def verdict(results: Sequence[Result], size: str) -> Verdict:
    """The rule."""
    figures, found = figures_of(results), compared(results)
    beats = mean(found["gain"]) > ERRORS * error(found["gain"])
    apart = mean(found["ratio"]) >= RATIO
    needed = all(mean(found[name]) > ERRORS * error(found[name]) for name in ("against_length", "against_start"))
    figures["the length term is needed"] = "shown" if needed else "not shown"
    text = (
        f"satisfaction {figures['checklist: satisfaction']:.3f} against {figures['holistic: satisfaction']:.3f} "
        f"(gain {mean(found['gain']):+.3f}, SE {error(found['gain']):.3f}); stds at step 0 {mean(found['ratio']):.2f} to 1; "
        f"length error without its term {mean(found['against_length']):+.3f} against the checklist's"
    )
    if beats and apart and needed:
        return Verdict("reproduced", text, figures)
    level = of_arm(results, "holistic")
    baseline = mean([one["final"]["satisfaction"] for one in level])
    headroom = 1 - baseline - EFFECT
    competent = baseline >= mean([one["base"]["satisfaction"] for one in level]) - 0.02
    low, high = interval(found["gain"])
    if high < EFFECT and competent:
        spread = {"effect": EFFECT, "interval_low": low, "interval_high": high, "baseline": baseline, "headroom": headroom}
        return Verdict("not reproduced", text, figures | spread)
    low, high = interval(found["ratio"])
    if high < RATIO and competent:
        spread = {"effect": RATIO, "interval_low": low, "interval_high": high, "baseline": baseline, "headroom": headroom}
        return Verdict("not reproduced", f"{text}; the holistic rewards lie nearly as far apart", figures | spread)
    missing = [name for name, there in (("gain", beats), ("spread", apart), ("need of the length term", needed)) if not there]
    return Verdict("inconclusive", f"{text}; not shown: {', '.join(missing)}", figures)


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each arm."""
    rows = []
    for arm in ARMS:
        runs = of_arm(results, arm)
        start = of_arm(results, SPREAD)
        rate = next(one["settings"]["rate"] for one in results if one["arm"] == arm)
        rows.append(
            {
                "arm": arm,
                "rate": f"{rate:.0e}".replace("e-0", "e-"),
                "satisfaction": ", ".join(f"{one['final']['satisfaction']:.3f}" for one in runs),
                "all met": ", ".join(f"{one['final']['all_met']:.2f}" for one in runs),
                "length error": ", ".join(f"{one['final']['length_error']:.3f}" for one in runs),
                "std at step 0": ", ".join(f"{one['std'][arm]:.3f}" for one in start),
                "zero-variance groups": ", ".join(f"{one['zero']:.2f}" for one in runs),
                "steps": ", ".join(str(one["steps"]) for one in runs),
                "tokens": ", ".join(f"{one['tokens']:,.0f}" for one in runs),
            }
        )
    return rows


def plot(results: Sequence[Result], found: Verdict) -> str:
    """Satisfaction of each arm and before, with two standard errors."""
    values = {arm: [one["final"]["satisfaction"] for one in of_arm(results, arm)] for arm in ARMS}
    values = {"before": [one["base"]["satisfaction"] for one in of_arm(results, "checklist")], **values}
    bands = {name: (mean(one) - ERRORS * error(one), mean(one) + ERRORS * error(one)) for name, one in values.items()}
    return bar_plot(
        {name: mean(one) for name, one in values.items()}, f"ace-rl.1: {found.status}", "satisfaction on held-out prompts", bands
    )
