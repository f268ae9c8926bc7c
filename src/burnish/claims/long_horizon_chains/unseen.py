"""long-horizon-chains.2: pass@128 on horizons that were never trained on, the curriculum against short chains only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim, Result, Verdict, shared_of
from burnish.claims.long_horizon_chains import settings as numbers
from burnish.claims.long_horizon_chains import world
from burnish.claims.long_horizon_chains.base import accuracy, base_of, engine_of, held_out, shared
from burnish.claims.long_horizon_chains.stages import difference, mean
from burnish.claims.long_horizon_chains.training import CURRICULUM, ONLY_1, strict, train
from burnish.models.policy import Policy
from burnish.rl.rewards.verifier import Verifier
from burnish.runs import plots
from burnish.tasks.evaluation import evaluate

START = "start"
HORIZONS = (9, 10, 11, 12)
EFFECT = 0.1
"""The smallest gain in pass@128 that counts as one."""


def unseen(size: str) -> dict[str, Any]:
    """The measurement: horizons, chains of each, completions of each, and k."""
    own = {"horizons": list(HORIZONS), "chains": 32, "k": 128} if size == "full" else {"horizons": [9], "chains": 2, "k": 4}
    return {**numbers.learning(size), **own} | ({"tokens": 200_000} if size == "full" else {})


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of both arms on its own seed, both at their rate, and the start as it is."""
    own = unseen(size)
    pair = (CURRICULUM, ONLY_1)
    grid = [one for arm in pair for one in numbers.grid(arm, {**own, "arm": arm}, size)]
    return (*grid, *(numbers.chosen(arm, {**own, "arm": arm}, arm, size) for arm in pair), Arm(START, {**own, "arm": START}))


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """pass@1 and pass@k of the whole chain, and of its last state alone, by horizon. The grid measures trained horizons, not these."""
    own, policy = dict(arm.settings), base_of(shared_of(folder))
    found: dict[str, Any] = {"tokens": 0} if own["arm"] == START else train(own["arm"], own, seed, policy, folder / "rl")
    if arm.name.startswith("grid/"):
        return found | {"accuracy": accuracy(policy, seed, range(1, own["longest"] + 1), own["asked"], own["samples"])}
    return found | passes(policy, seed, own)


def passes(policy: Policy, seed: int, own: dict[str, Any]) -> dict[str, Any]:
    """By horizon: {"pass@1", "pass@k", "last@k"}."""
    out, k = {}, own["k"]
    engine = engine_of(policy)
    for h in own["horizons"]:
        items = strict(held_out(policy, seed, h, own["chains"]), world.chains(own["chains"], seed, "test", h))
        result = evaluate(policy, items, Verifier(world.whole, name="whole"), k, seed=seed, engine=engine)
        last = mean([float(any(world.check(text, item.columns) for text in one.completions)) for item, one in zip(items, result.items)])
        out[str(h)] = {"pass@1": round(result.success().mean, 5), "pass@k": round(result.pass_at(k).mean, 5), "last@k": round(last, 5)}
    return {"unseen": out}


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the best mean accuracy over the trained horizons on the grid's seed; the lower one where two agree."""
    best = max(results, key=lambda one: (mean(list(one["result"]["accuracy"].values())), -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def by_arm(results: Sequence[Result], h: str, measure: str = "pass@k") -> dict[str, list[float]]:
    """The seeds of each arm, in order."""
    rows = sorted((one for one in results if not one["arm"].startswith("grid/")), key=lambda one: one["seed"])
    return {arm: [one["result"]["unseen"][h][measure] for one in rows if one["arm"] == arm] for arm in (CURRICULUM, ONLY_1, START)}


def horizons_of(results: Sequence[Result]) -> list[str]:
    """Those that were measured."""
    return next(list(one["result"]["unseen"]) for one in results if "unseen" in one["result"])


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule: paired differences at each unseen horizon."""
    figures: dict[str, float | str] = {}
    ahead, gaps = True, []
    for h in horizons_of(results):
        found = by_arm(results, h)
        gap, error = difference(found[ONLY_1], found[CURRICULUM])
        figures |= {f"h={h}: {arm}": round(mean(values), 4) for arm, values in found.items()}
        figures |= {f"h={h}: {arm}, last state alone": round(mean(values), 4) for arm, values in by_arm(results, h, "last@k").items()}
        figures |= {f"h={h}: gain": round(gap, 4), f"h={h}: SE of the gain": round(error, 4) if math.isfinite(error) else "one seed"}
        ahead &= gap > 2 * error and gap > 0
        gaps.append([y - x for x, y in zip(found[ONLY_1], found[CURRICULUM])])
    over = {arm: [mean(values) for values in zip(*(by_arm(results, h)[arm] for h in horizons_of(results)))] for arm in (ONLY_1, START)}
    met, met_error = difference(over[START], over[ONLY_1])
    figures |= {"only-L1 - start": round(met, 4)}
    meets = met - 2 * met_error < EFFECT if math.isfinite(met_error) else abs(met) < EFFECT
    if ahead and meets:
        return Verdict("reproduced", "the curriculum is above only-L1 at every unseen horizon, and only-L1 meets the start", figures)
    per_seed = [mean(list(values)) for values in zip(*gaps)]
    gap, error = difference([0.0] * len(per_seed), per_seed)
    base = mean(over[ONLY_1])
    said = f"over the unseen horizons the gain is {gap:.3f}" + ("" if meets else "; only-L1 is above the start")
    if gap + 2 * error < EFFECT and base < 1 - EFFECT:
        spread = {"effect": EFFECT, "interval_low": gap - 2 * error, "interval_high": gap + 2 * error}
        return Verdict("not reproduced", said, figures | spread | {"baseline": base, "headroom": 1 - base})
    return Verdict("inconclusive", said, figures)


def plot(results: list[Any], found: Verdict) -> str:
    """pass@k of the whole chain against the horizon, the mean over seeds."""
    hs = horizons_of(results)
    curves = {arm: ([float(h) for h in hs], [mean(by_arm(results, h)[arm]) for h in hs]) for arm in (CURRICULUM, ONLY_1, START)}
    return plots.line_plot(curves, f"long-horizon-chains.2: {found.status}", "horizon h, never trained on", "pass@k of the whole chain")


CLAIM = Claim(
    id="long-horizon-chains.2",
    title="pass@128 on unseen horizons",
    paper="h1: Bootstrapping LLMs to Reason over Longer Horizons via Reinforcement Learning, arXiv 2510.07312",
    sentence="On horizons longer than any in training the curriculum is ahead at pass@128, where training on h = 1 meets the start.",
    rule=(
        "The start and the arms of long-horizon-chains.1 with 200,000 tokens; 32 held-out chains each of h = 9 to 12, 128 completions of"
        " each. A completion passes where every state is right, since nine of ten sets of 128 blind guesses hold the last state."
        " Reproduced if over five seeds, paired, the curriculum's pass@128 is above only-L1's by more than 2 SE at each h, and only-L1 is"
        " not above the start by 0.1 over them by 2 SE. Not reproduced if the gain over h = 9 to 12 is below 0.1 by 2 SE and only-L1 is"
        " below 0.9. Else inconclusive."
    ),
    arms=arms,
    seeds=numbers.seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    shared=shared,
    common=numbers.common,
    settle=settle,
    minutes=25.0,
)
