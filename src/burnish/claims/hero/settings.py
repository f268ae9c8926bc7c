"""hero.1 in numbers: one task, one base for each seed, one budget and one grid for all arms."""

from __future__ import annotations

from typing import Any

SHAPERS: dict[str, list[dict[str, Any]]] = {
    "verifier": [],
    "scorer": [{"name": "scorer_only"}],
    "blend": [{"name": "blend", "a": 0.5}],
    "gated": [{"name": "gated_fallback"}],
    "hero": [{"name": "hero"}],
    "hero-unweighted": [{"name": "hero", "weight": False}],
}
"""The arms: what stands between the verifier's verdicts and the credit. Everything else is the same."""

RATES = (1e-4, 3e-4, 1e-3)
SMOKE_RATE = 3e-4
GRID_SEED = 100
SEEDS = (1, 2, 3)
EFFECT = 0.02
"""The smallest gain in true accuracy that would count; the paper's over the better single signal is 0.015 to 0.09."""
FLAT = 0.02
"""A change of true accuracy that is none."""

FULL: dict[str, Any] = {
    "hidden": 72,
    "sft": {"rows": 60000, "slips": 0.8, "steps": 2000, "batch": 64, "rate": 5e-3},
    "rl_steps": 400,
    "rl_prompts": 16,
    "group": 8,
    "minibatches": 2,
    "held_out": 128,
    "samples": 2,
    "final_samples": 8,
    "eval_every": 40,
}
SMOKE: dict[str, Any] = FULL | {
    "hidden": 32,
    "sft": {"rows": 200, "slips": 0.8, "steps": 10, "batch": 32, "rate": 5e-3},
    "rl_steps": 2,
    "rl_prompts": 4,
    "group": 4,
    "held_out": 8,
    "samples": 1,
    "final_samples": 1,
    "eval_every": 1,
}


def common(size: str) -> dict[str, Any]:
    """What all runs of a size have in common, the base model included."""
    return FULL if size == "full" else SMOKE
