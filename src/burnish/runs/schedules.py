"""Learning-rate factors as pure functions of the count of moves: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable

from burnish.runs.errors import UserError, did_you_mean

NAMES = ("constant", "linear", "cosine")


def make(name: str = "constant", total_moves: int = 1, warmup: float = 0, minimum: float = 0.0) -> Callable[[int], float]:
    """`schedule(k) -> factor` for the k-th move (from 0) of `total_moves`.

    warmup: moves over which the factor rises linearly, never from exactly 0, to 1 at the move after them; below 1 it is a share of
    total_moves. After it: constant 1; linear or cosine (half a period) down to `minimum`, which it would reach one move after the last.
    Raises UserError for an unknown name.
    """
    if name not in NAMES:
        raise UserError(f"unknown learning-rate schedule {name!r}; {did_you_mean(name, NAMES)}")
    if warmup < 0 or not 0 <= minimum <= 1:
        raise UserError(f"schedule: warmup is {warmup} (needs >= 0) and minimum is {minimum} (needs 0 to 1)")
    rising = round(warmup * total_moves) if 0 < warmup < 1 else int(warmup)

    def factor(k: int) -> float:
        if k < rising:
            return (k + 1) / (rising + 1)
        if name == "constant":
            return 1.0
        share = min(1.0, (k - rising) / max(1, total_moves - rising))
        fall = 1 - share if name == "linear" else 0.5 * (1 + math.cos(math.pi * share))
        return minimum + (1 - minimum) * fall

    return factor
