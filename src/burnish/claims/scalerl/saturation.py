"""scalerl.1: from the first half of a run's compute, is the second half forecast, and the ceiling known?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.harness.claim import Arm, Claim, Verdict
from burnish.claims.scalerl.training import train_and_measure
from burnish.rl.forecast import show
from burnish.rl.forecast.fit import Fit, fit
from burnish.rl.forecast.later import outcome
from burnish.rl.forecast.points import Points, make_points
from burnish.rl.forecast.refusals import MARGIN

FULL: dict[str, Any] = {
    "hidden": 72,
    "longest": 8,
    "share": 0.3,
    "prompts": 256,
    "samples": 16,
    "sft": {"steps": 1500, "batch": 64, "rows": 16000, "slips": 0.3, "rate": 5e-3, "every": 25, "wanted": 0.16},
    "rl_steps": 840,
    "rl_rate": 7e-4,
    "rl_prompts": 32,
    "group": 8,
    "eval_every": 8,
}
SMOKE: dict[str, Any] = FULL | {
    "hidden": 32,
    "longest": 2,
    "prompts": 16,
    "samples": 4,
    "sft": {"steps": 8, "batch": 16, "rows": 100, "slips": 0.3, "rate": 4e-3, "every": 4, "wanted": 0.17},
    "rl_steps": 12,
    "rl_prompts": 4,
    "group": 4,
    "eval_every": 1,
}
NEEDED = 2
"""Seeds that must come out right."""
# The settings were tried on seed 9. With 480 steps the first half of all three seeds was refused: the 80 % interval of A was 0.051 to 0.068
# wide, and the runs had not saturated. The length was then set to 840 steps, before any forecast had been given.


def arms(size: str) -> tuple[Arm, ...]:
    """One arm: the controls are fitted to the same run."""
    return (Arm("scalerl", FULL if size == "full" else SMOKE),)


def seeds(size: str) -> tuple[int, ...]:
    """Three seeds; one for smoke."""
    return (0, 1, 2) if size == "full" else (0,)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """Trains, evaluates, and adds what the first half said of the second."""
    found = train_and_measure(dict(arm.settings), seed, folder)
    return found | judge(found)


def points_of(found: Mapping[str, Any], name: str = "") -> Points:
    """The evaluations of a result."""
    items = np.array(found["successes"], dtype=np.float64) / found["samples"]
    return make_points(found["compute"], items.mean(1), items, items.shape[1], found["samples"], name, "tokens written x parameters")


def half(found: Mapping[str, Any], name: str = "") -> Fit:
    """The fit of the first half of the compute."""
    points = points_of(found, name)
    return fit(points, until=0.5 * float(points.compute[-1]))


def judge(found: Mapping[str, Any]) -> dict[str, Any]:
    """The forecast from the first half against the last tenth; the whole run's curve; and a window that ends before its C_mid."""
    early, whole = half(found), fit(points_of(found))
    seen = outcome(early)
    out: dict[str, Any] = {"half": show.as_json(early, found["compute"][-1]), "whole": show.as_json(whole, found["compute"][-1])}
    out["outcome"] = seen.to_dict() if seen is not None else None
    out["short_window"] = None
    if whole.curve is not None:
        out["window_by_c_mid"] = 0.5 * found["compute"][-1] / whole.curve.c_mid
        out["short_window"] = fit(points_of(found), until=0.8 * whole.curve.c_mid).verdict.text
    return out


def passes(found: Mapping[str, Any]) -> dict[str, bool]:
    """The three conditions of the rule, on one seed; all False where no forecast was given."""
    seen, early = found["outcome"], found["half"]
    if seen is None:
        return {"close": False, "covers": False, "better": False}
    low, high = early["a95"]
    error = abs(seen["error"])
    others = [abs(seen[name] - seen["truth"]) for name in ("power_law", "last_value")]
    return {"close": error <= MARGIN + 2 * seen["se"], "covers": low <= found["ceiling"] <= high, "better": error < min(others)}


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule; what it rests on is in the figures."""
    found = {f"seed {row['seed']}": row["result"] for row in results}
    right = {name: passes(one) for name, one in found.items()}
    good = sum(all(one.values()) for one in right.values())
    figures: dict[str, float | str] = {"seeds right": float(good), "seeds": float(len(found))}
    for name, one in found.items():
        figures |= {f"{name}: verdict": one["half"]["verdict"], f"{name}: ceiling": one["ceiling"]}
        figures[f"{name}: window too short before C_mid"] = str(one["short_window"])
        if one["outcome"] is not None:
            seen = one["outcome"]
            figures |= {f"{name}: {key}": seen[key] for key in ("forecast", "truth", "error", "se", "power_law", "last_value")}
            figures |= {f"{name}: A": one["half"]["curve"]["a"]}
            figures |= {f"{name}: A low": one["half"]["a95"][0], f"{name}: A high": one["half"]["a95"][1]}
    if good >= NEEDED:
        return Verdict("reproduced", f"forecast, ceiling and both controls as the rule asks on {good} of {len(found)} seeds", figures)
    missed = [name for name, one in right.items() if not one["close"] and found[name]["outcome"] is not None]
    failed = {key: [name for name, one in right.items() if not one[key]] for key in ("close", "covers", "better")}
    text = "; ".join(f"{key}: not on {', '.join(names)}" for key, names in failed.items() if names)
    if len(missed) >= NEEDED:
        errors = [abs(found[name]["outcome"]["error"]) for name in missed]
        worst = [abs(found[name]["outcome"]["error"]) - 2 * found[name]["outcome"]["se"] for name in missed]
        spread = {"effect": MARGIN, "interval_low": min(worst), "interval_high": 2 * max(errors) - min(worst)}
        level = {"baseline": found[missed[0]]["outcome"]["power_law"], "headroom": found[missed[0]]["ceiling"]}
        return Verdict("not reproduced", f"{good} of {len(found)} seeds ({text})", figures | spread | level)
    return Verdict("inconclusive", f"{good} of {len(found)} seeds ({text})", figures)


def plot(results: list[Any], verdict: Verdict) -> str:
    """Each seed's evaluations, the curve of the first half and where the rest fell."""
    fits = [half(row["result"], f"seed {row['seed']}") for row in results]
    return show.plot(fits, title=f"scalerl.1: {verdict.status}")


CLAIM = Claim(
    id="scalerl.1",
    title="The second half of a run from its first half",
    paper="The Art of Scaling Reinforcement Learning Compute for LLMs, arXiv 2510.13786",
    sentence="A saturating curve fitted to the first half of a run's compute forecasts its held-out pass rate and its ceiling.",
    rule=(
        "A policy of 0.1M parameters is fine-tuned to a pass rate of 0.15 to 0.2 on chains modulo 61 of which a share of 0.3 has a random"
        " answer, so that the ceiling is known, and trained with the preset scalerl to saturation. Reproduced if on 2 of 3 seeds the"
        " forecast from the first half misses the mean of the last tenth by at most 0.02 + 2 SE (clustered by prompt), the 95 % interval"
        " of A, clustered by prompt, covers the known ceiling, and the error is below that of a power law fitted to the same window and"
        " of the last value carried forward. Not reproduced if the forecast misses by more on 2 seeds. Else inconclusive."
    ),
    arms=arms,
    seeds=seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    minutes=20.0,
)
