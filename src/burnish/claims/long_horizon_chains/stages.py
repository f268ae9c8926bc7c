"""long-horizon-chains.1: the horizon curriculum against a uniform mix, short chains only and long chains only, at equal tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim, Result, Verdict, shared_of
from burnish.claims.long_horizon_chains import settings as numbers
from burnish.claims.long_horizon_chains.base import accuracy, base_of, shared, start_of
from burnish.claims.long_horizon_chains.training import ARMS, CURRICULUM, ONLY_1, ONLY_LONG, UNIFORM, train
from burnish.runs import plots

DEEP = ("6", "7", "8")
"""The horizons of the rule."""
EFFECT = 0.05
"""The smallest gain over the uniform mix that counts as one."""


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of all arms on its own seed; then each arm at the rate its grid chose."""
    own = numbers.learning(size)
    grid = [one for arm in ARMS for one in numbers.grid(arm, {**own, "arm": arm}, size)]
    return (*grid, *(numbers.chosen(arm, {**own, "arm": arm}, arm, size) for arm in ARMS))


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """Accuracy at every horizon before and after."""
    own, policy = dict(arm.settings), base_of(shared_of(folder))
    found = train(own["arm"], own, seed, policy, folder / "rl")
    horizons = range(1, own["longest"] + 1)
    return {**found, "start": start_of(shared_of(folder)), "accuracy": accuracy(policy, seed, horizons, own["asked"], own["samples"])}


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the best mean accuracy over all horizons on the grid's seed; the lower one where two agree."""
    best = max(results, key=lambda one: (mean(list(one["result"]["accuracy"].values())), -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def mean(values: Sequence[float]) -> float:
    """NaN for none."""
    return sum(values) / len(values) if values else math.nan


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error of b - a over seeds; the error of one seed is infinite."""
    gaps = [y - x for x, y in zip(a, b, strict=True)]
    middle = mean(gaps)
    if len(gaps) < 2:
        return middle, math.inf
    return middle, math.sqrt(sum((gap - middle) ** 2 for gap in gaps) / (len(gaps) - 1) / len(gaps))


def by_arm(results: Sequence[Result], h: str) -> dict[str, list[float]]:
    """Final accuracy at a horizon: the seeds of each arm, in order."""
    rows = sorted((one for one in results if not one["arm"].startswith("grid/")), key=lambda one: one["seed"])
    return {arm: [one["result"]["accuracy"].get(h, math.nan) for one in rows if one["arm"] == arm] for arm in ARMS}


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule: four paired differences at each of h = 6, 7, 8."""
    there = [h for h in DEEP if any(h in one["result"]["accuracy"] for one in results)] or ["1"]
    pairs = ((UNIFORM, CURRICULUM), (ONLY_1, UNIFORM), (ONLY_LONG, UNIFORM))
    figures: dict[str, float | str] = {}
    clear: dict[tuple[str, str], bool] = dict.fromkeys(pairs, True)
    for h in there:
        found = by_arm(results, h)
        figures |= {f"h={h}: {arm}": round(mean(values), 4) for arm, values in found.items()}
        for low, high in pairs:
            gap, error = difference(found[low], found[high])
            figures[f"h={h}: {high} - {low}"] = round(gap, 4)
            figures[f"h={h}: SE of {high} - {low}"] = round(error, 4) if math.isfinite(error) else "one seed"
            clear[low, high] &= gap > 2 * error
    figures |= {f"{arm}: start at h={there[-1]}": round(_start(results, arm, there[-1]), 4) for arm in (CURRICULUM,)}
    said = "; ".join(f"{high} {'above' if fine else 'not clearly above'} {low}" for (low, high), fine in clear.items())
    if all(clear.values()):
        return Verdict("reproduced", f"at every h of {', '.join(there)}: {said}", figures)
    over = _over_deep(results, there)
    gap, error = difference(over[UNIFORM], over[CURRICULUM])
    base = mean(over[UNIFORM])
    if gap + 2 * error < EFFECT and base < 1 - 2 * EFFECT and base > 2 * max(mean(over[ONLY_1]), mean(over[ONLY_LONG])):
        spread = {"effect": EFFECT, "interval_low": gap - 2 * error, "interval_high": gap + 2 * error}
        return Verdict("not reproduced", said, figures | spread | {"baseline": base, "headroom": 1 - base})
    return Verdict("inconclusive", said, figures)


def _start(results: Sequence[Result], arm: str, h: str) -> float:
    return mean([one["result"]["start"].get(h, math.nan) for one in results if one["arm"] == arm])


def _over_deep(results: Sequence[Result], there: Sequence[str]) -> dict[str, list[float]]:
    columns = [by_arm(results, h) for h in there]
    return {arm: [mean(list(values)) for values in zip(*(column[arm] for column in columns))] for arm in ARMS}


def table(results: list[Any]) -> list[dict[str, Any]]:
    """Each arm: its rate, and its accuracy at every horizon, the mean over seeds."""
    out = []
    for arm in ARMS:
        runs = [one for one in results if one["arm"] == arm]
        horizons = list(runs[0]["result"]["accuracy"]) if runs else []
        row = {"arm": arm, "rate": ", ".join(sorted({f"{one['settings'].get('rate', 0):g}" for one in runs}))}
        row |= {f"h={h}": f"{mean([one['result']['accuracy'][h] for one in runs]):.3f}" for h in horizons}
        out.append({**row, "tokens": f"{mean([one['result']['tokens'] for one in runs]):,.0f}"} if runs else row)
    return out


def plot(results: list[Any], found: Verdict) -> str:
    """Accuracy against the horizon, the mean over seeds, with the start."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for arm in ARMS:
        runs = [one["result"]["accuracy"] for one in results if one["arm"] == arm]
        if runs:
            curves[arm] = ([float(h) for h in runs[0]], [mean([one[h] for one in runs]) for h in runs[0]])
    starts = [one["result"]["start"] for one in results if one["arm"] == CURRICULUM]
    if starts:
        curves["start"] = ([float(h) for h in starts[0]], [mean([one[h] for one in starts]) for h in starts[0]])
    return plots.line_plot(curves, f"long-horizon-chains.1: {found.status}", "horizon h", "accuracy of the last state")


CLAIM = Claim(
    id="long-horizon-chains.1",
    title="A curriculum of horizons at equal tokens",
    paper="h1: Bootstrapping LLMs to Reason over Longer Horizons via Reinforcement Learning, arXiv 2510.07312",
    sentence="Raising the horizon in stages, rewarding the last answer alone, teaches long chains that uniform, short or long data do not.",
    rule=(
        "A policy of 0.1M parameters walks chains modulo 61 and grows careless with depth; it is trained with the recipe"
        " long-horizon-chains on the same number of generated tokens in four arms: eight stages of equal tokens, a uniform mix of h = 1 to"
        " 8, only h = 1, only h = 8. Each arm's rate comes from one grid of three on its own seed. Reproduced if over five paired seeds"
        " the curriculum is above the uniform mix and the mix above both others by more than 2 SE at h = 6, 7 and 8 each. Not reproduced if"
        " over h = 6 to 8 the curriculum's gain over the mix is below 0.05 by 2 SE where the mix reached twice the others and is below 0.9."
        " Else inconclusive."
    ),
    arms=arms,
    seeds=numbers.seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    shared=shared,
    common=numbers.common,
    settle=settle,
    table=table,
    minutes=60.0,
)
