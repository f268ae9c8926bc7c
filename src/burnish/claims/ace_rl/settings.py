"""ace-rl.1 in numbers: one task, one model, one budget and one grid for all arms."""

from __future__ import annotations

from typing import Any

ARMS = ("checklist", "holistic", "no-length", "self-verifier")
RATES = (4e-4, 1e-3)
GRID_SEED = 100
SEEDS = (1, 2, 3)

FULL: dict[str, Any] = {
    "hidden": 112,
    "care": 0.5,
    "off": 0.08,
    "confusion": 0.1,
    "noise": 0.05,
    "sft": {"rows": 16000, "steps": 300, "batch": 64, "rate": 4e-3},
    "verifier": {"rows": 1500, "steps": 400, "batch": 64, "rate": 1e-3},
    "tokens": 240_000,
    "rl_prompts": 8,
    "group": 8,
    "held_out": 128,
    "samples": 4,
    "spread_prompts": 64,
    "points": 3,
}
SMOKE: dict[str, Any] = FULL | {
    "hidden": 32,
    "sft": {"rows": 64, "steps": 4, "batch": 16, "rate": 4e-3},
    "verifier": {"rows": 24, "steps": 4, "batch": 8, "rate": 1e-3},
    "tokens": 500,
    "rl_prompts": 2,
    "group": 4,
    "held_out": 6,
    "samples": 1,
    "spread_prompts": 3,
    "points": 0,
}


def numbers(size: str) -> dict[str, Any]:
    """The numbers of a size."""
    return FULL if size == "full" else SMOKE
