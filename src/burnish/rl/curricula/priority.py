"""Items drawn in proportion to p (1 - p) of their pass rate p: most often those solved half of the time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum
from burnish.rl.curricula.rates import PassRates
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng


class Priority(Curriculum):
    """Weight of an item: max(p (1 - p), floor); p (1 - p) is the variance of its reward (learnability, arXiv 2408.15099).

    unseen: weight of items with fewer than `min_count` scored rollouts; 0.25 is the largest p (1 - p) there is, so that they come early.
    floor: least weight of all others, so that what is solved or hopeless today is asked again now and then (0: never).
    decay: weight of the older rollouts whenever an item is seen again. An item comes twice in one draw only where there are fewer
    items than draws. Rates read `Score.success`. Deterministic by (seed, step, round) and the rates.
    """

    def __init__(self, items: Sequence[Item], floor: float = 0.01, unseen: float = 0.25, min_count: int = 4, decay: float = 0.8):
        super().__init__(items)
        if floor < 0 or unseen <= 0 or min_count < 1 or not 0 <= decay <= 1:
            raise UserError(
                f"curriculum priority: floor {floor} must be at least 0, unseen {unseen} above 0, min_count {min_count} at least 1"
                f" and decay {decay} in [0, 1]"
            )
        self.floor, self.unseen = floor, unseen
        self.rates = PassRates(decay, min_count)
        self._warned = False

    def weight(self, item_id: str) -> float:
        """The item's present weight; draws are in proportion to it."""
        p = self.rates.rate(item_id)
        return self.unseen if p is None else max(p * (1 - p), self.floor)

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items, without replacement as far as there are enough: the n smallest of exponential clocks with these rates."""
        generator = rng("priority", int(state.get("seed", 0)), int(state["step"]), int(state.get("round", 0)))
        weights = np.array([self.weight(item.id) for item in self.items])
        chosen: list[Item] = []
        while len(chosen) < n:
            clocks = generator.exponential(size=len(weights))
            # Weight 0 comes last, in the order of its clock: drawn only where nothing else is left.
            times = np.divide(clocks, weights, out=np.full(len(weights), np.inf), where=weights > 0)
            order = np.lexsort((clocks, times))
            chosen += [self.items[place] for place in order[: n - len(chosen)]]
        return chosen

    def observe(self, batch: Any) -> None:
        """Counts the successes of a scored batch (`batch.groups`)."""
        known = self.rates.add(batch.groups)
        if batch.groups and not known and not self._warned:
            self._warned = True
            text = "priority: the scores carry no success, so all items weigh the same for ever; use a reward that sets it"
            warnings.warn(text, stacklevel=2)

    def metrics(self) -> dict[str, float]:
        """The mean weight, and the share of items whose rate is known."""
        known = [self.rates.rate(item.id) is not None for item in self.items]
        weights = [self.weight(item.id) for item in self.items]
        return {"curriculum/known": sum(known) / len(known), "curriculum/weight": sum(weights) / len(weights)}

    def state_dict(self) -> dict[str, Any]:
        """The rates."""
        return {"rates": self.rates.state_dict(), "warned": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.rates.load_state_dict(state["rates"])
        self._warned = bool(state["warned"])


part = Priority
