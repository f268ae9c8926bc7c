"""The experiment of g2rl.1 in numbers: arms, grid, seeds, sizes. Decided before its full runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.claims.harness.claim import Arm, Result

ARMS: dict[str, list[Any]] = {
    "grpo": [],
    "entropy": [],
    "ngram": [{"name": "ngram_novelty", "n": 2}],
    "g2rl-text": ["g2rl"],
    "g2rl-formula": [{"name": "g2rl", "mode": "formula"}],
    "random-nubar": [{"name": "random_nubar"}],
}
"""Shapers of each arm; those of novelty at their default strength of 0.5."""

RATES = (5e-4, 1e-3)
ETAS = (0.003, 0.01, 0.03)
"""Coefficients of the entropy bonus."""
GRID_SEED = 100
SEEDS = (1, 2, 3, 4, 5)

FULL: dict[str, Any] = {
    "hidden": 72,
    "steps": 90,
    "prompts": 16,
    "group": 16,
    "minibatches": 2,
    "held_out": 86,
    "final_samples": 64,
    "eval_every": 10,
    "sft": {"rows": 20000, "steps": 2500, "batch": 64, "rate": 2e-3, "slips": 0.1, "every": 25, "asked": 64, "wanted": 0.3},
}
SMOKE: dict[str, Any] = FULL | {
    "steps": 2,
    "prompts": 2,
    "group": 4,
    "held_out": 4,
    "final_samples": 4,
    "eval_every": 1,
    "sft": FULL["sft"] | {"rows": 200, "steps": 4, "batch": 16, "every": 2, "asked": 4},
}


def common(size: str) -> dict[str, Any]:
    """What all runs of a size have in common."""
    return FULL if size == "full" else SMOKE


def grid_of(arm: str) -> list[Arm]:
    """The runs that choose an arm's rate (and, for the entropy bonus, its coefficient), on a seed of their own."""
    return [
        Arm(f"grid/{arm}-{rate:g}" + (f"-{eta:g}" if eta else ""), {"shapers": ARMS[arm], "rate": rate, "eta": eta}, seeds=(GRID_SEED,))
        for rate in RATES
        for eta in (ETAS if arm == "entropy" else (0.0,))
    ]


def first_of_grid(name: str) -> Arm:
    """An arm at the lowest rate (and coefficient)."""
    return Arm(name, {"shapers": ARMS[name], "rate": RATES[0], "eta": ETAS[0] if name == "entropy" else 0.0})


JUDGED = ("grpo", "g2rl-text", "g2rl-formula", "random-nubar")
"""What the verdict reads; all that runs at smoke size, where a process costs more than what it does."""


def arms(size: str) -> tuple[Arm, ...]:
    """The grid of all arms, then the arms at what their grids chose. Smoke: no grid, and the arms that the verdict reads."""
    if size != "full":
        return tuple(first_of_grid(name) for name in JUDGED)
    grids = {name: grid_of(name) for name in ARMS}
    main = [Arm(name, {"shapers": ARMS[name]}, follows=tuple(one.name for one in grids[name])) for name in ARMS]
    return (*(one for grid in grids.values() for one in grid), *main)


def seeds(size: str) -> tuple[int, ...]:
    """Those of the compared runs."""
    return SEEDS if size == "full" else (1,)


def settle(arm: Arm, results: Sequence[Result]) -> dict[str, Any]:
    """What gave the highest mean of held-out pass@1 and pass@16; the lower rate and coefficient where two agree."""
    best = max(results, key=lambda one: (_merit(one), -one["settings"]["rate"], -one["settings"]["eta"]))
    return {"rate": best["settings"]["rate"], "eta": best["settings"]["eta"]}


def _merit(one: Result) -> float:
    final = one["result"]["final"]
    return float(final["pass@1"] + final["pass@16"]) / 2
