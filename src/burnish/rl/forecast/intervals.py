"""Bootstrap of a fitted curve: over its residuals (what these prompts leave open) and over prompts (what other prompts would give).

The same prompts are asked at every point, so a lucky set of prompts lifts the whole curve. Drawing prompts moves all points together;
drawing residuals, in blocks as long as their memory, keeps the prompts and asks how well the window pins the curve down.
"""

from __future__ import annotations

import numpy as np

from burnish.rl.forecast.free import Curves, fit_curves
from burnish.rl.forecast.points import Points
from burnish.runs.seeds import rng

DRAWS = 400
FREEST = 1.5
"""Drawn curves may end above 1: a bound would hide how little the window says of A."""


def residual_draws(
    window: Points, fitted: np.ndarray, r0: float | None, weights: np.ndarray, draws: int, seed: int, a: float | None = None
) -> Curves:
    """Curves refitted to `fitted` plus drawn residuals. r0 None: fitted too. a: the ceiling where it is held fixed."""
    n = len(window)
    scaled = (window.rates - fitted) * np.sqrt(weights)
    scaled = (scaled - scaled.mean()) * np.sqrt(n / max(1, n - (3 if a is None else 2)))
    size = block_length(scaled)
    starts = rng("forecast residuals", seed).integers(0, n, size=(draws, -(-n // size)))
    places = (starts[:, :, None] + np.arange(size)).reshape(draws, -1)[:, :n] % n
    rates = fitted + scaled[places] / np.sqrt(weights)
    low, high = (r0 or 0.0, FREEST) if a is None else (a, a)
    return fit_curves(window.compute, rates, None if r0 is None else np.full(draws, r0), weights, low, high)


def prompt_draws(window: Points, items0: np.ndarray | None, r0: float | None, weights: np.ndarray, draws: int, seed: int) -> Curves | None:
    """Curves refitted to prompts drawn with replacement, the same ones at every point; None where no prompt's rate is known.

    items0: each prompt's rate before RL, drawn along with the others; r0 stands in where that is not known (None: R0 is fitted).
    """
    if window.items is None or window.items.shape[1] < 2:
        return None
    counts = prompt_weights(window.items.shape[1], draws, seed)
    starts = counts @ items0 if items0 is not None and r0 is not None else None if r0 is None else np.full(draws, r0)
    return fit_curves(window.compute, counts @ window.items.T, starts, weights, 0.0 if starts is None else starts, FREEST)


def prompt_weights(prompts: int, draws: int, seed: int) -> np.ndarray:
    """How often each prompt is drawn, as a share [draws, prompts]; each row adds up to 1."""
    return rng("forecast prompts", seed).multinomial(prompts, np.full(prompts, 1.0 / prompts), size=draws) / prompts


def block_length(residuals: np.ndarray) -> int:
    """How many neighbouring residuals stay together: 1 where they do not remember each other, more the longer they do."""
    energy = float(residuals @ residuals)
    memory = float(residuals[1:] @ residuals[:-1]) / energy if energy > 0 else 0.0
    if memory < 0.2:
        return 1
    return int(np.clip(round((1 + memory) / (1 - min(memory, 0.9))), 2, max(2, len(residuals) // 5)))


def spread(values: np.ndarray, share: float) -> tuple[float, float]:
    """The central interval that holds this share of the values."""
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
