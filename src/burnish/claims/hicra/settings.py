"""The numbers of hicra.2 and hicra.3: one model, one task, one grid for all arms."""

from __future__ import annotations

from typing import Any

ARMS = ("grpo", "hicra", "placebo", "entropy", "whole")
"""GRPO; HICRA; the same boost on other tokens of the same share (placebo), on the most uncertain ones (entropy), and on all (whole)."""
CONTROLS = tuple(arm for arm in ARMS if arm != "hicra")
LIMIT_ARMS = ("grpo", "hicra")
"""Of the second setting, whose base executes badly."""
SKILLS = ("good", "poor")

GRID_SEED = 100
TARGET = 0.8
SAVING = 0.1
"""Share of GRPO's steps that a working HICRA would save."""

FULL: dict[str, Any] = {
    "hidden": 104,
    "sft": {"rows": 6000, "steps": 400, "batch": 64, "rate": 5e-3, "slips": {"good": 0.002, "poor": 0.1}},
    "steps": 220,
    "prompts": 12,
    "group": 16,
    "minibatches": 1,
    "epsilon": 1e-4,
    "subsample": 16,
    "held_out": 36,
    "samples": 4,
    "least": 0.001,
}
"""0.2M parameters."""
# Tried on seeds 90 and 91 until GRPO reached the target within the steps without losing its execution: batch, length, rates, schedule and
# epsilon were moved for that. The last setting was seen with GRPO alone (0.8 after 163 steps, seed 91, rate 5e-4).
SMOKE: dict[str, Any] = FULL | {
    "hidden": 32,
    "sft": {"rows": 64, "steps": 3, "batch": 16, "rate": 5e-3, "slips": {"good": 0.002, "poor": 0.1}},
    "steps": 2,
    "prompts": 2,
    "group": 2,
    "held_out": 6,
    "samples": 1,
    "least": 0.0,
}
RATES = (3e-4, 5e-4, 8e-4)


def numbers(size: str) -> dict[str, Any]:
    """Of a size."""
    return FULL if size == "full" else SMOKE


def seeds(size: str) -> tuple[int, ...]:
    """Five; one for smoke."""
    return (0, 1, 2, 3, 4) if size == "full" else (0,)
