"""hicra.2: does credit for planning tokens save steps, more than the same boost elsewhere, and only where the base can execute?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import Arm, Claim, Verdict
from burnish.claims.hicra.settings import ARMS, CONTROLS, GRID_SEED, LIMIT_ARMS, RATES, SAVING, SKILLS, TARGET, numbers, seeds
from burnish.runs import plots
from burnish.runs.stats import Interval, clustered_mean

PAPER = "Emergent Hierarchical Reasoning in LLMs through Reinforcement Learning, arXiv 2509.03646"


def arms(size: str) -> tuple[Arm, ...]:
    """For each base the grid of its arms on a seed of its own, then each arm at the rate that its grid chose."""
    rates = RATES if size == "full" else RATES[1:2]
    grid, main = [], []
    for skill in SKILLS:
        for name in ARMS if skill == "good" else LIMIT_ARMS:
            own = [Arm(grid_name(skill, name, rate), {"arm": name, "skill": skill, "rate": rate}, seeds=(GRID_SEED,)) for rate in rates]
            grid += own
            main.append(Arm(f"{skill}/{name}", {"arm": name, "skill": skill}, follows=tuple(one.name for one in own)))
    return (*grid, *main)


def grid_name(skill: str, arm: str, rate: float) -> str:
    """`grid/good/hicra-1e-3`"""
    return f"grid/{skill}/{arm}-{rate:.0e}".replace("e-0", "e-")


def shared(seed: int, folder: Path, size: str) -> None:
    """Both bases of a seed."""
    from burnish.claims.hicra.training import make_base

    folder.mkdir(exist_ok=True)
    for skill in SKILLS:
        make_base(seed, folder, numbers(size), skill)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """One training run, see `training.train`. reached: updates until the smoothed pass rate was 0.8, or None. last: of the last tenth."""
    from burnish.claims.hicra.training import steps_to, train

    own = arm.settings
    found = train(numbers(size), own["arm"], own["skill"], own["rate"], seed, folder)
    return found | {"reached": steps_to(found["success"], TARGET), "last": last_tenth(found["success"])}


def last_tenth(values: Sequence[float]) -> float:
    """Mean of the last tenth of the steps."""
    return round(float(np.mean(values[-max(1, len(values) // 10) :])), 5)


def common(size: str) -> dict[str, Any]:
    """Of all runs."""
    return numbers(size)


def settle(arm: Arm, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rate that reached the target in the fewest steps; of those that did not, the highest at the end; the lower where equal."""
    best = min(results, key=lambda one: (steps_of(one["result"]), -one["result"]["last"], one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def steps_of(result: Mapping[str, Any]) -> float:
    """Steps to the target; all of them where it was not reached."""
    return float(len(result["success"])) if result["reached"] is None else float(result["reached"])


def of_arm(results: Sequence[Mapping[str, Any]], name: str) -> dict[int, Mapping[str, Any]]:
    """Seed -> what the run returned."""
    return {one["seed"]: one["result"] for one in results if one["arm"] == name}


def compared(results: Sequence[Mapping[str, Any]], skill: str, other: str, measure: Any) -> tuple[float, float, Interval]:
    """(mean, standard error, 95 % interval) of `measure` of another arm minus HICRA's, seed by seed."""
    mine, theirs = of_arm(results, f"{skill}/hicra"), of_arm(results, f"{skill}/{other}")
    paired = sorted(set(mine) & set(theirs))
    differences = np.array([measure(theirs[seed]) - measure(mine[seed]) for seed in paired])
    error = float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else float("nan")
    return float(differences.mean()), error, clustered_mean(differences)


def verdict(results: Sequence[Mapping[str, Any]], size: str) -> Verdict:
    """The rule; what it rests on is in the figures."""
    main = [one for one in results if not one["arm"].startswith("grid/")]
    figures: dict[str, float | str] = {}
    for name in dict.fromkeys(one["arm"] for one in main):
        runs = list(of_arm(main, name).values())
        figures[f"{name}: rate"] = next(one["settings"].get("rate", 0.0) for one in main if one["arm"] == name)
        figures[f"{name}: steps to {TARGET}"] = round(float(np.mean([steps_of(run) for run in runs])), 2)
        figures[f"{name}: reached"] = sum(run["reached"] is not None for run in runs)
        figures[f"{name}: pass rate at the end"] = round(float(np.mean([run["last"] for run in runs])), 4)
    ahead = []
    for other in CONTROLS:
        mean, error, _ = compared(main, "good", other, steps_of)
        figures |= {f"steps saved against {other}": round(mean, 3), f"steps saved against {other}: SE": round(error, 3)}
        if mean > 2 * error:
            ahead.append(other)
    gain, error, _ = compared(main, "poor", "grpo", lambda run: -run["last"])
    figures |= {"poor base: gain at the end": round(gain, 4), "poor base: gain at the end: SE": round(error, 4)}
    limited = gain <= 2 * error
    grpo = of_arm(main, "good/grpo")
    competent = sum(run["reached"] is not None for run in grpo.values()) >= len(grpo) - 1
    text = f"HICRA ahead of {', '.join(ahead) or 'none'} by more than 2 SE; on the poor base {'no gain' if limited else 'a gain'}"
    if not competent:
        return Verdict("inconclusive", f"GRPO does not reach {TARGET} on all seeds but one; {text}", figures)
    if set(ahead) == set(CONTROLS):
        return Verdict("reproduced" if limited else "inconclusive", text, figures)
    return _against(main, text, figures)


def _against(main: Sequence[Mapping[str, Any]], text: str, figures: dict[str, float | str]) -> Verdict:
    """Whether the saving against GRPO is known to be less than a tenth."""
    grpo = of_arm(main, "good/grpo")
    whole = float(np.mean([steps_of(run) for run in grpo.values()]))
    interval = compared(main, "good", "grpo", steps_of)[2]
    low, high = interval.low / whole, interval.high / whole
    before = float(np.mean([run["base"]["right"] for run in grpo.values()]))
    figures = figures | {
        "effect": SAVING,
        "interval_low": round(low, 4),
        "interval_high": round(high, 4),
        "baseline": round(float(np.mean([run["last"] for run in grpo.values()])), 4),
        "headroom": round(TARGET - before, 4),
    }
    return Verdict("not reproduced" if high < SAVING else "inconclusive", text, figures)


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each arm of each base."""
    rows = []
    for name in dict.fromkeys(one["arm"] for one in results if not one["arm"].startswith("grid/")):
        runs = [result for _, result in sorted(of_arm(results, name).items())]
        rate = next(one["settings"]["rate"] for one in results if one["arm"] == name)
        rows.append(
            {
                "base/arm": name,
                "rate": f"{rate:.0e}".replace("e-0", "e-"),
                f"steps to {TARGET}": ", ".join("–" if run["reached"] is None else f"{run['reached']:.1f}" for run in runs),
                "at the end": ", ".join(f"{run['last']:.2f}" for run in runs),
                "held out": ", ".join(f"{run['final']['right']:.2f}" for run in runs),
                "before": ", ".join(f"{run['base']['right']:.2f}" for run in runs),
                "executed before": ", ".join(f"{run['base']['executed']:.2f}" for run in runs),
                "executed after": ", ".join(f"{run['final']['executed']:.2f}" for run in runs),
            }
        )
    return rows


def plot(results: Sequence[Mapping[str, Any]], found: Verdict) -> str:
    """Pass rate of the samples against steps, the mean over seeds, smoothed over five steps."""
    from burnish.claims.hicra.training import smooth

    curves = {}
    for name in dict.fromkeys(one["arm"] for one in results if not one["arm"].startswith("grid/")):
        runs = list(of_arm(results, name).values())
        mean = np.mean([smooth(run["success"]) for run in runs], axis=0)
        curves[name] = (list(range(len(mean))), mean.tolist())
    return plots.line_plot(curves, f"hicra.2: {found.status}", "updates", "pass rate", hlines={"target": TARGET})


CLAIM = Claim(
    id="hicra.2",
    title="More credit for planning tokens",
    paper=PAPER,
    sentence="A fifth more credit and a fifth less blame for planning tokens makes GRPO learn faster, where the base can execute.",
    rule=(
        "A policy of 0.2M parameters, fine-tuned to execute six strategies and to choose among them at random, learns by GRPO"
        " which of them solves which kind of problem. Arms with the same samples, seeds and steps: GRPO, HICRA, the same boost on"
        " as many random other tokens (placebo), on as many of highest entropy, and on all tokens with the same mean; each at the"
        " best rate of one grid on a seed of its own. Steps until the mean pass rate of five steps reaches 0.8 (all steps where it"
        " never does). Reproduced if HICRA needs fewer than GRPO and than every control by more than 2 SE of the paired difference"
        " over five seeds, and on a base that executes badly its pass rate at the end is not above GRPO's by more than 2 SE. Not"
        " reproduced if GRPO reaches 0.8 on at least four seeds and the 95 % interval of the share of its steps that HICRA saves"
        " lies below 0.1. Else inconclusive."
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
