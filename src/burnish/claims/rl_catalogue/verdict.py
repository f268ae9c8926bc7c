"""What the learning table says: best rates from the grid, the table, the verdict and the plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.claims.harness.claim import Arm, Result, Verdict
from burnish.claims.rl_catalogue.settings import CONTROL, GRID_SEED, TARGET, rl_settings, scale
from burnish.runs.plots import line_plot


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of all presets on its own seed; then each preset at the rate its grid chose; then the control at grpo's."""
    numbers = scale(size)
    grid = [
        Arm(grid_name(preset, rate), {**arm_settings(preset, "task", size), "rate": rate}, seeds=(GRID_SEED,))
        for preset in numbers.presets
        for rate in numbers.rates
    ]
    follows = {preset: tuple(grid_name(preset, rate) for rate in numbers.rates) for preset in numbers.presets}
    main = [Arm(preset, arm_settings(preset, "task", size), follows=follows[preset]) for preset in numbers.presets]
    return (*grid, *main, Arm(CONTROL, arm_settings("grpo", "random", size), follows=follows["grpo"]))


def arm_settings(preset: str, reward: str, size: str) -> dict[str, Any]:
    """All but the rate."""
    return {"preset": preset, "reward": reward, "rl": rl_settings(preset, size)}


def grid_name(preset: str, rate: float) -> str:
    """`grid/grpo-3e-4`"""
    return f"grid/{preset}-{rate:.0e}".replace("e-0", "e-")


def seeds(size: str) -> tuple[int, ...]:
    """Those of the final runs."""
    return scale(size).seeds


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """The rate with the highest final pass rate on the grid's seed; the lower rate where two agree."""
    best = max(results, key=lambda one: (one["result"]["final"]["mean"], -one["settings"]["rate"]))
    return {"rate": best["settings"]["rate"]}


def of_arm(results: Sequence[Result], name: str) -> list[dict[str, Any]]:
    """What the runs of an arm returned, in the order of their seeds."""
    return [one["result"] for one in sorted(results, key=lambda one: one["seed"]) if one["arm"] == name]


def main_arms(results: Sequence[Result]) -> list[str]:
    """Presets with final runs, as they stand."""
    names = dict.fromkeys(one["arm"] for one in results)
    return [name for name in names if not name.startswith("grid/") and name != CONTROL]


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each preset and for the control."""
    rows = []
    for name in [*main_arms(results), CONTROL]:
        runs = of_arm(results, name)
        rate = next(one["settings"]["rate"] for one in results if one["arm"] == name)
        tokens = [run["reached"] for run in runs]
        rows.append(
            {
                "preset": name,
                "rate": f"{rate:.0e}".replace("e-0", "e-"),
                f"above {TARGET}": f"{sum(one is not None for one in tokens)} of {len(runs)}",
                "tokens needed": ", ".join("–" if one is None else f"{one:,}" for one in tokens),
                "pass rate at the end [95 %]": "; ".join(_interval(run["final"]) for run in runs),
                "before": ", ".join(f"{run['base']['mean']:.2f}" for run in runs),
                "doctor": "; ".join(dict.fromkeys(_doctor(run) for run in runs)),
            }
        )
    return rows


def _doctor(run: dict[str, Any]) -> str:
    found = run.get("doctor", {})
    return ", ".join(found.get("alarms", {})) or found.get("verdict", "–")


def _interval(found: dict[str, float]) -> str:
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def verdict(results: Sequence[Result], size: str) -> Verdict:
    """Reproduced: every preset above 0.6 on all seeds, the control on none."""
    presets = main_arms(results)
    runs = {name: of_arm(results, name) for name in [*presets, CONTROL]}
    failed = [name for name in presets if any(run["reached"] is None for run in runs[name])]
    leaked = any(run["reached"] is not None for run in runs[CONTROL])
    figures: dict[str, float | str] = {
        "presets": len(presets),
        "presets that learned": len(presets) - len(failed),
        "control above the target": sum(run["reached"] is not None for run in runs[CONTROL]),
        "control at the end": round(_mean(run["final"]["mean"] for run in runs[CONTROL]), 4),
        "before": round(_mean(run["base"]["mean"] for name in presets for run in runs[name]), 4),
    }
    if leaked:
        return Verdict("inconclusive", f"the random reward, too, led above {TARGET}: the task does not tell learning from drift", figures)
    if not failed:
        return Verdict("reproduced", f"all {len(presets)} presets exceed {TARGET} on every seed; a random reward does not", figures)
    reason = f"{len(presets) - len(failed)} of {len(presets)} presets exceed {TARGET} on every seed; not {', '.join(failed)}"
    return Verdict("not reproduced", reason, figures | _against(runs, failed, presets))


def _against(runs: dict[str, list[dict[str, Any]]], failed: list[str], presets: list[str]) -> dict[str, float | str]:
    """The figures that "not reproduced" rests on: the failing run nearest to the target, and what the best preset made of the same base."""
    nearest = max((run["final"] for name in failed for run in runs[name] if run["reached"] is None), key=lambda one: one["high"])
    best = max(_mean(run["final"]["mean"] for run in runs[name]) for name in presets)
    return {
        "effect": TARGET,
        "interval_low": nearest["low"],
        "interval_high": nearest["high"],
        "baseline": round(best, 4),
        "headroom": round(best - TARGET, 4),
    }


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def plot(results: Sequence[Result], found: Verdict) -> str:
    """Held-out pass rate against generated tokens, the mean over seeds."""
    curves = {}
    for name in [*main_arms(results), CONTROL]:
        runs = of_arm(results, name)
        length = min(len(run["curve"]) for run in runs)
        points = [[run["curve"][place] for run in runs] for place in range(length)]
        curves[name] = ([_mean(one[0] for one in point) for point in points], [_mean(one[1] for one in point) for point in points])
    return line_plot(
        curves, "Learning table: every preset from the same base", "generated tokens", "held-out pass rate", hlines={"target": TARGET}
    )
