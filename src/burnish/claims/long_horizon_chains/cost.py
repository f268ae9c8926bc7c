"""long-horizon-chains.3: generated tokens until 0.8 at horizon H, by a curriculum that climbs to H and by training on H alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import Arm, Claim, Result, Verdict, shared_of
from burnish.claims.long_horizon_chains import settings as numbers
from burnish.claims.long_horizon_chains import world
from burnish.claims.long_horizon_chains.base import base_of, engine_of, held_out, shared, start_of
from burnish.claims.long_horizon_chains.stages import difference, mean
from burnish.claims.long_horizon_chains.training import CURRICULUM, ONLY_LONG, train
from burnish.models.policy import Policy
from burnish.rl.rewards.long_horizon_chains import FinalAnswer
from burnish.runs import atomic, plots
from burnish.tasks.evaluation import evaluate

TARGET = 0.8
MIDDLE = 3
"""The horizon at which only-long's rate is chosen."""
EFFECT = math.log10(2)
"""At the longest horizon, only-long costs at least twice as much: the smallest effect that counts."""


def climbing(size: str) -> dict[str, Any]:
    """The budget of a run, the longest horizon, and how often it is asked whether 0.8 is reached."""
    own = numbers.learning(size)
    if size != "full":
        return own | {"longest": 1, "every": 2, "threshold": TARGET, "cap": 4}
    return own | {"longest": 6, "tokens": 300_000, "every": 8, "asked": 64, "samples": 4, "threshold": TARGET, "cap": 200}


def arms(size: str) -> tuple[Arm, ...]:
    """The grid on its own seed: the curriculum, and H = 3 alone. Then the curriculum, and every H alone, each at its grid's rate."""
    own = climbing(size)
    climbs, alone = {**own, "arm": CURRICULUM}, {**own, "arm": ONLY_LONG}
    grid = [*numbers.grid(CURRICULUM, climbs, size), *numbers.grid(ONLY_LONG, {**alone, "longest": MIDDLE}, size)]
    lengths = range(1, own["longest"] + 1)
    each = [numbers.chosen(f"{ONLY_LONG}/H{h}", {**alone, "longest": h}, ONLY_LONG, size) for h in lengths]
    return (*grid, numbers.chosen(CURRICULUM, climbs, CURRICULUM, size), *each)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """cost: tokens at the first evaluation of at least 0.8 at H, by H; None where the budget ended before."""
    own, policy = dict(arm.settings), base_of(shared_of(folder))
    horizons = [own["longest"]] if own["arm"] == ONLY_LONG else list(range(1, own["longest"] + 1))
    asked = Asked(policy, seed, own, horizons, folder / "cost.json")
    asked(own["every"], 0.0)
    if not asked.left:
        return {"start": start_of(shared_of(folder)), "cost": asked.cost, "budget": own["tokens"], "tokens": 0}
    found = train(own["arm"], own, seed, policy, folder / "rl", watch=asked)
    return {**found, "start": start_of(shared_of(folder)), "cost": asked.cost, "budget": own["tokens"]}


class Asked:
    """Asks every few steps for the accuracy at the shortest horizon that has not reached 0.8, and at those after it once it has.

    place: keeps what was reached, for a run that is killed and goes on.
    """

    def __init__(self, policy: Policy, seed: int, own: dict[str, Any], horizons: list[int], place: Path):
        self.policy, self.seed, self.own, self.place = policy, seed, own, place
        self.cost: dict[str, float | None] = {str(h): None for h in horizons}
        if place.exists():
            self.cost |= json.loads(place.read_text(encoding="utf-8"))
        self.left = [h for h in horizons if self.cost[str(h)] is None]
        self.engine = engine_of(policy)

    def __call__(self, step: int, tokens: float) -> bool:
        """True where nothing is left to reach."""
        if step % self.own["every"]:
            return False
        self.engine.refresh(step)
        while self.left and self._reached(self.left[0]):
            self.cost[str(self.left.pop(0))] = tokens
            self.place.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(self.place, json.dumps(self.cost) + "\n")
        return not self.left

    def _reached(self, h: int) -> bool:
        items = held_out(self.policy, self.seed, h, self.own["asked"])
        found = evaluate(self.policy, items, FinalAnswer(world.check), self.own["samples"], seed=self.seed, engine=self.engine)
        return found.success().mean >= TARGET


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the most horizons reached on the grid's seed, then with the fewest tokens; the lower one where two agree."""

    def worth(one: Result) -> tuple[float, float, float]:
        costs = [value for value in one["result"]["cost"].values() if value is not None]
        return float(len(costs)), -max(costs, default=0.0), -one["settings"]["rate"]

    return {"rate": max(results, key=worth)["settings"]["rate"]}


def costs_of(results: Sequence[Result]) -> dict[str, dict[int, dict[int, float | None]]]:
    """Arm -> seed -> H -> tokens, or None where 0.8 was not reached."""
    out: dict[str, dict[int, dict[int, float | None]]] = {CURRICULUM: {}, ONLY_LONG: {}}
    for one in results:
        name = one["arm"].partition("/")[0]
        if name in out:
            row = out[name].setdefault(one["seed"], {})
            row |= {int(h): value for h, value in one["result"]["cost"].items()}
    return out


def misfit(costs: dict[int, float | None], budget: float) -> tuple[float, float, float]:
    """Residual sums of squares of log cost, linear in H (exponential) and linear in log H (polynomial), and the slope of the first.

    A horizon that was not reached counts once, at the budget: a lower bound, which speaks for the polynomial. NaN below four points.
    """
    points: list[tuple[int, float]] = []
    for h in sorted(costs):
        value = costs[h]
        points.append((h, math.log(max(value, 1.0) if value is not None else budget)))
        if value is None:
            break
    points = [point for point in points if point[1] > 0]  # reached before training: no cost
    if len(points) < 4:
        return math.nan, math.nan, math.nan
    hs, ys = np.array([h for h, _ in points], dtype=np.float64), np.array([y for _, y in points])
    fits = [np.polynomial.Polynomial.fit(x, ys, 1) for x in (hs, np.log(hs))]
    errors = [float(((fit(x) - ys) ** 2).sum()) for fit, x in zip(fits, (hs, np.log(hs)))]
    return errors[0], errors[1], float(fits[0].convert().coef[1])


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule: which law fits which arm, and what the longest horizon costs."""
    found, budget = costs_of(results), float(results[0]["result"]["budget"])
    longest = max(h for row in found[CURRICULUM].values() for h in row)
    figures: dict[str, float | str] = {"budget": budget}
    for arm, rows in found.items():
        for h in range(1, longest + 1):
            values = [row[h] for row in rows.values() if row.get(h) is not None]
            reached = f"{len(values)} of {len(rows)}"
            figures[f"{arm}: tokens to H={h}"] = (
                f"{mean([float(v) for v in values if v is not None]):.0f} ({reached})" if values else reached
            )
    laws = {arm: [misfit(row, budget) for row in rows.values()] for arm, rows in found.items()}
    exponential = sum(fit[0] < fit[1] for fit in laws[ONLY_LONG])
    polynomial = sum(fit[1] < fit[0] for fit in laws[CURRICULUM])
    climbed = all(value is not None for row in found[CURRICULUM].values() for value in row.values())
    figures |= {"only-long: exponential fits better on": float(exponential), "curriculum: polynomial fits better on": float(polynomial)}
    for arm, fits in laws.items():
        factor = math.exp(mean([fit[2] for fit in fits]))
        figures[f"{arm}: factor for each step"] = round(factor, 4) if math.isfinite(factor) else "too few horizons"
    low, high = [
        [math.log10(max(row.get(longest) or budget, 1.0)) for _, row in sorted(found[arm].items())] for arm in (CURRICULUM, ONLY_LONG)
    ]
    gap, error = difference(low, high)
    figures |= {
        f"log10 of the ratio at H={longest}, at least": round(gap, 4),
        "SE": round(error, 4) if math.isfinite(error) else "one seed",
    }
    enough = math.ceil(0.8 * len(low))
    said = (
        f"only-long costs at least {10**gap:.2g} times as much at H = {longest}; exponential fits only-long better on {exponential},"
        f" polynomial the curriculum on {polynomial} of {len(low)} seeds"
    )
    if climbed and gap - 2 * error > EFFECT and exponential >= enough and polynomial >= enough:
        return Verdict("reproduced", said, figures)
    if climbed and gap + 2 * error < EFFECT and all(row.get(longest) is not None for row in found[ONLY_LONG].values()):
        spread = {"effect": EFFECT, "interval_low": gap - 2 * error, "interval_high": gap + 2 * error}
        base = mean([10**value for value in high])
        return Verdict("not reproduced", said, figures | spread | {"baseline": base, "headroom": budget - base})
    return Verdict("inconclusive", said, figures)


def plot(results: list[Any], found: Verdict) -> str:
    """log10 of the tokens against H, the mean over seeds that reached it."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for arm, rows in costs_of(results).items():
        longest = max(h for row in rows.values() for h in row)
        there = {h: [float(row[h] or 1) for row in rows.values() if row.get(h) is not None] for h in range(1, longest + 1)}
        kept = {h: mean([math.log10(max(value, 1.0)) for value in values]) for h, values in there.items() if values}
        curves[arm] = ([float(h) for h in kept], list(kept.values()))
    budget = math.log10(results[0]["result"]["budget"])
    return plots.line_plot(
        curves, f"long-horizon-chains.3: {found.status}", "horizon H", "log10 of tokens to 0.8", hlines={"budget": budget}
    )


CLAIM = Claim(
    id="long-horizon-chains.3",
    title="What a horizon costs",
    paper="h1: Bootstrapping LLMs to Reason over Longer Horizons via Reinforcement Learning, arXiv 2510.07312",
    sentence="A curriculum turns a cost that is exponential in the horizon into one that is polynomial.",
    rule=(
        "The start of long-horizon-chains.1 is trained until it is right in 0.8 of held-out chains of H steps: by a curriculum that"
        " climbs where 0.8 is reached, and on H alone, for H = 1 to 6, at most 300,000 generated tokens a run; one grid of three rates on a"
        " seed of its own, at H = 3 for the second. Reproduced if over five seeds the curriculum reaches every H, only-long costs more than"
        " twice as much at H = 6 by 2 SE of the logarithm (the budget stands in where it does not get there), and on at least 4 seeds log"
        " cost is fitted better by a line in H for only-long (the first H out of reach counted at the budget) and by a line in log H for"
        " the curriculum; an H that the start has reached is left out. Not reproduced if both reach H = 6 everywhere and the ratio is below"
        " 2 by 2 SE. Else inconclusive."
    ),
    arms=arms,
    seeds=numbers.seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    shared=shared,
    common=numbers.common,
    settle=settle,
    minutes=60.0,
)
