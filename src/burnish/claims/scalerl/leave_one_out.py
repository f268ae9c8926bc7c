"""scalerl.3: is ScaleRL, with one part reverted at a time, any better?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import Arm, Claim, Result, Verdict
from burnish.claims.scalerl.ablation import PARTS, prepare, train_and_measure
from burnish.claims.scalerl.saturation import points_of
from burnish.rl.forecast.fit import fit
from burnish.runs.plots import line_plot

FULL: dict[str, Any] = {
    "hidden": 48,
    "longest": 6,
    "share": 0.3,
    "prompts": 128,
    "samples": 16,
    "problems": 768,
    "sft": {"steps": 1500, "batch": 64, "rows": 12000, "slips": 0.3, "rate": 5e-3, "every": 25, "wanted": 0.16},
    "updates": 320,
    "rl_prompts": 16,
    "group": 8,
    "eval_every": 8,
}
SMOKE: dict[str, Any] = FULL | {
    "hidden": 16,
    "longest": 2,
    "prompts": 8,
    "samples": 2,
    "problems": 32,
    "sft": {"steps": 4, "batch": 16, "rows": 64, "slips": 0.3, "rate": 4e-3, "every": 4, "wanted": 0.17},
    "updates": 8,
    "rl_prompts": 2,
    "group": 2,
}
RATES = (5e-4, 1e-3)
GRID_SEED = 9
SMOKE_PARTS = ("scalerl", "head", "interruption", "pipeline")
WHOLE = "scalerl"


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of all arms on its own seed, then each arm at the rate that its grid chose."""
    rates, parts = (RATES, tuple(PARTS)) if size == "full" else (RATES[1:], SMOKE_PARTS)
    grid = [Arm(grid_name(part, rate), {"part": part, "rate": rate}, seeds=(GRID_SEED,)) for part in parts for rate in rates]
    return (*grid, *(Arm(part, {"part": part}, follows=tuple(grid_name(part, rate) for rate in rates)) for part in parts))


def grid_name(part: str, rate: float) -> str:
    """`grid/loss-1e-3`"""
    return f"grid/{part}-{rate:.0e}".replace("e-0", "e-")


def seeds(size: str) -> tuple[int, ...]:
    """Three seeds; one for smoke."""
    return (0, 1, 2) if size == "full" else (0,)


def common(size: str) -> dict[str, Any]:
    """What all runs have in common."""
    return FULL if size == "full" else SMOKE


def shared(seed: int, folder: Path, size: str) -> None:
    """The fine-tuned policy of a seed."""
    prepare(common(size), seed, folder)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """Trains, evaluates, and fits the curve of the whole run."""
    found = train_and_measure({**common(size), **arm.settings}, seed, folder)
    curve = fit(points_of(found)).curve
    fitted = None if curve is None else {"a": float(curve.a), "b": float(curve.b), "c_mid": float(curve.c_mid)}
    return found | {"level": level(found), "fit": fitted}


def level(found: dict[str, Any]) -> float:
    """The mean pass rate of the last fifth of the evaluations."""
    rates = np.array(found["successes"], dtype=np.float64).mean(1) / found["samples"]
    return float(rates[-max(1, len(rates) // 5) :].mean())


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the highest level on the grid's seed; the lower one where two agree."""
    best = max(results, key=lambda one: (one["result"]["level"], -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def runs_of(results: Sequence[Result], part: str) -> list[dict[str, Any]]:
    """What the runs of an arm returned, by seed."""
    return [dict(one["result"]) for one in sorted(results, key=lambda one: one["seed"]) if one["arm"] == part]


def ceilings(runs: Sequence[dict[str, Any]]) -> list[float] | None:
    """A of each seed; None where a fit was refused."""
    found = [one["fit"] for one in runs]
    return None if any(one is None for one in found) else [one["a"] for one in found]


def slopes(runs: Sequence[dict[str, Any]]) -> list[float] | None:
    """B of each seed, likewise."""
    found = [one["fit"] for one in runs]
    return None if any(one is None for one in found) else [one["b"] for one in found]


def against(whole: Sequence[float] | None, other: Sequence[float] | None) -> tuple[str, float, float]:
    """("better", "worse", "no difference" or "no fit", mean difference, spread): the larger range over seeds of the two."""
    if whole is None or other is None:
        return "no fit", float("nan"), float("nan")
    spread = max(max(whole) - min(whole), max(other) - min(other))
    difference = float(np.mean(other) - np.mean(whole))
    word = "no difference" if abs(difference) <= spread else "better" if difference > 0 else "worse"
    return word, difference, spread


def compared(results: Sequence[Result]) -> dict[str, dict[str, tuple[str, float, float]]]:
    """Each reverted part against the whole recipe: in A, B and the level at the end."""
    whole = runs_of(results, WHOLE)
    out = {}
    for part in PARTS:
        other = runs_of(results, part)
        if part != WHOLE and other:
            levels = [one["level"] for one in whole], [one["level"] for one in other]
            out[part] = {
                "A": against(ceilings(whole), ceilings(other)),
                "B": against(slopes(whole), slopes(other)),
                "level": against(*levels),
            }
    return out


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each arm."""
    words, rows = compared(results), []
    for part in PARTS:
        runs = runs_of(results, part)
        if not runs:
            continue
        row: dict[str, Any] = {
            "reverted": "nothing" if part == WHOLE else part,
            "rate": next(r["settings"]["rate"] for r in results if r["arm"] == part),
        }
        for name, values in (("A", ceilings(runs)), ("B", slopes(runs)), ("level at the end", [one["level"] for one in runs])):
            row[name] = "no fit" if values is None else f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        for name in ("A", "B", "level"):
            row[f"{name} against the whole"] = words[part][name][0] if part in words else ""
        rows.append(row)
    return rows


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule; A where every fit of both arms stands, else the level at the end."""
    words = compared(results)
    whole = runs_of(results, WHOLE)
    judged = {part: one["A"] if one["A"][0] != "no fit" else one["level"] for part, one in words.items()}
    figures: dict[str, float | str] = {"whole: level": float(np.mean([one["level"] for one in whole]))}
    for part, one in words.items():
        for name, (word, difference, spread) in one.items():
            figures[f"{part}: {name}"] = word if word == "no fit" else f"{word} ({difference:+.3f}, spread {spread:.3f})"
    better = [part for part, one in judged.items() if one[0] == "better"]
    worse = [part for part, one in words.items() if "worse" in (judged[part][0], one["B"][0])]
    if better:
        _, difference, spread = judged[better[0]]
        level_, ceiling = float(np.mean([one["level"] for one in whole])), float(np.mean([one["ceiling"] for one in whole]))
        rest = {"effect": 0.0, "interval_low": difference - spread, "interval_high": difference + spread}
        return Verdict(
            "not reproduced",
            f"better without: {', '.join(better)}",
            figures | rest | {"baseline": level_, "headroom": ceiling - level_},
        )
    if not worse:
        return Verdict("inconclusive", "no part made a difference beyond the spread of the seeds, so nothing was put to the test", figures)
    return Verdict("reproduced", f"no run was better with a part reverted; worse without: {', '.join(worse)}", figures)


def plot(results: list[Any], verdict: Verdict) -> str:
    """Mean pass rate over seeds against compute."""
    curves = {}
    for part in PARTS:
        runs = runs_of(results, part)
        if runs:
            rates = np.mean([np.array(one["successes"]).mean(1) / one["samples"] for one in runs], axis=0)
            compute = np.mean([one["compute"] for one in runs], axis=0)
            curves["whole recipe" if part == WHOLE else f"without {part}"] = (compute.tolist(), rates.tolist())
    return line_plot(curves, f"scalerl.3: {verdict.status}", "tokens written x parameters", "held-out pass rate")


CLAIM = Claim(
    id="scalerl.3",
    title="ScaleRL with one part reverted at a time",
    paper="The Art of Scaling Reinforcement Learning Compute for LLMs, arXiv 2510.13786",
    sentence="Each part of the recipe is there because a run without it was no better.",
    rule=(
        "The whole recipe (CISPO, float32 head, prompt mean, batch-level scale, zero-variance filter, retirement at 0.9, forced"
        " interruption, lag 8) and eight arms that revert one part each make as many updates from one fine-tuned policy on"
        " chains with a known ceiling, three seeds, each arm at the rate that one grid of two chose for it on a seed of its own."
        " A and B of the curve fitted to each run are compared with the larger range over seeds of the two arms: inside it is"
        " 'no difference'. Where a fit is refused, the mean of the last fifth of the evaluations stands for A. Reproduced if no"
        " reverted arm is better in A and at least one is worse in A or B. Not reproduced if one is better in A. Inconclusive if"
        " nothing differs."
    ),
    arms=arms,
    seeds=seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    shared=shared,
    common=common,
    settle=settle,
    table=table,
    minutes=60.0,
)
