"""The three experiments in numbers: one start, one grid of rates, one budget for all arms of a claim."""

from __future__ import annotations

from typing import Any

from burnish.claims.harness.claim import Arm

CARELESS = [0.97, 0.7, 0.55, 0.42, 0.35, 0.3, 0.26, 0.22]
"""How careful the teacher of the second phase is at each step: the chance that what he writes is meant. On the grid's seed the policy then
writes the right state after a right or wrong one with chances 0.83, 0.47, 0.37, 0.25, 0.16, 0.14, 0.13, 0.10."""
CLEAN = [1.0] * 8

GRID_SEED = 100
RATES = (3e-4, 1e-3, 2e-3)


def seeds(size: str) -> tuple[int, ...]:
    """Of all three claims: five; one for smoke."""
    return (0, 1, 2, 3, 4) if size == "full" else (0,)


def common(size: str) -> dict[str, Any]:
    """The start, which all three claims have in common."""
    return {"start": start(size, CARELESS)}


def start(size: str, reliability: list[float]) -> dict[str, Any]:
    """The start of all arms of a seed: a phase that teaches the walk, and one that makes it careless."""
    if size != "full":
        phases = [{"steps": 4, "rate": 1e-2, "reliability": CLEAN}, {"steps": 2, "rate": 5e-3, "reliability": reliability}]
        return {"hidden": 32, "batch": 16, "sft": phases, "asked": 4, "samples": 1}
    phases = [{"steps": 400, "rate": 1e-2, "reliability": CLEAN}, {"steps": 600, "rate": 4e-3, "reliability": reliability}]
    return {"hidden": 64, "batch": 64, "sft": phases, "asked": 100, "samples": 4}


def learning(size: str) -> dict[str, Any]:
    """What all arms share: the budget in generated tokens, the batch and how the end is measured."""
    if size != "full":
        return {"longest": 3, "tokens": 60, "prompts": 2, "group": 4, "pool": 16, "asked": 4, "samples": 1}
    return {"longest": 8, "tokens": 300_000, "prompts": 16, "group": 8, "pool": 2048, "asked": 128, "samples": 4}


def chosen(name: str, own: dict[str, Any], grid_of: str, size: str) -> Arm:
    """An arm at the rate that the grid of `grid_of` chooses; smoke has no grid, for each of its runs is a process."""
    if size != "full":
        return Arm(name, {**own, "rate": RATES[1]})
    return Arm(name, own, follows=tuple(grid_name(grid_of, rate) for rate in RATES))


def grid(arm: str, own: dict[str, Any], size: str) -> list[Arm]:
    """An arm at every rate, on the grid's own seed."""
    return [Arm(grid_name(arm, rate), {**own, "rate": rate}, seeds=(GRID_SEED,)) for rate in (RATES if size == "full" else ())]


def grid_name(arm: str, rate: float) -> str:
    """`grid/curriculum-3e-4`"""
    return f"grid/{arm}-{rate:.0e}".replace("e-0", "e-")
