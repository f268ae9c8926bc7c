"""Items that the policy sometimes solves: a window on the running pass rate of each item."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng


class DifficultyWindow(Curriculum):
    """Draws items with low <= pass rate <= high, and items with fewer than `min_count` scored rollouts (their rate is not known yet).

    low, high: bounds of the window. min_count: rollouts before a rate counts. decay: weight of the older rollouts at each observation
    (1: a plain mean; less: a running one that forgets). explore: share of the draws made from all items, so that items outside are
    measured again and may come back.

    The way out: where fewer than n items are inside, the rest of the draw is filled with those nearest to the window, and where nothing
    at all is inside this warns once. An item comes twice in one draw only where there are fewer items than draws.
    Rates read `Score.success`; invalid scores and scores without it do not count.
    """

    def __init__(
        self, items: Sequence[Item], low: float = 0.1, high: float = 0.9, min_count: int = 8, decay: float = 1.0, explore: float = 0.05
    ):
        super().__init__(items)
        if not 0 <= low <= high <= 1:
            raise UserError(f"curriculum difficulty_window: low {low} and high {high} must satisfy 0 <= low <= high <= 1")
        if min_count < 1 or not 0 < decay <= 1 or not 0 <= explore <= 1:
            raise UserError(
                f"curriculum difficulty_window: min_count {min_count} must be at least 1, decay {decay} in (0, 1]"
                f" and explore {explore} in [0, 1]"
            )
        self.low, self.high, self.min_count, self.decay, self.explore = low, high, min_count, decay, explore
        self.counts: dict[str, list[float]] = {}  # item id -> [rollouts, successes (both decayed), rollouts ever seen]
        self._warned = False

    def rate(self, item_id: str) -> float | None:
        """The running pass rate, or None where it is not known yet."""
        count, solved, seen = self.counts.get(item_id, [0.0, 0.0, 0.0])
        return solved / count if seen >= self.min_count else None

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items; see the class."""
        generator = rng("window", int(state.get("seed", 0)), int(state["step"]), int(state.get("round", 0)))
        shuffled = [self.items[place] for place in generator.permutation(len(self.items))]
        distance = {item.id: self._distance(item.id) for item in shuffled}
        if min(distance.values()) > 0 and not self._warned:
            self._warned = True
            warnings.warn(
                f"difficulty_window: no item's pass rate lies in [{self.low}, {self.high}]; drawing those nearest to it "
                "(widen the window, add easier or harder items, or stop)",
                stacklevel=2,
            )
        ranked = sorted(shuffled, key=lambda item: distance[item.id])  # stable: equal ones stay shuffled
        anywhere = [self.items[place] for place in generator.permutation(len(self.items))]
        chosen: list[Item] = []
        taken: set[int] = set()
        queues = iter(ranked), iter(anywhere)
        for explores in generator.random(n) < self.explore:
            if len(taken) == len(self.items):
                taken, queues = set(), (iter(ranked), iter(anywhere))
            item = next(item for item in queues[int(explores)] if id(item) not in taken)
            chosen.append(item)
            taken.add(id(item))
        return chosen

    def _distance(self, item_id: str) -> float:
        rate = self.rate(item_id)
        return 0.0 if rate is None else max(self.low - rate, rate - self.high, 0.0)

    def observe(self, batch: Any) -> None:
        """Counts the successes of a scored batch (`batch.groups`)."""
        known = False
        for group in batch.groups:
            successes = [score.success for score in group.scores if not score.invalid and score.success is not None]
            if successes:
                known = True
                count, solved, seen = self.counts.get(group.item.id, [0.0, 0.0, 0.0])
                self.counts[group.item.id] = [
                    count * self.decay + len(successes),
                    solved * self.decay + float(sum(successes)),
                    seen + len(successes),
                ]
        if batch.groups and not known and not self._warned:
            self._warned = True
            text = "difficulty_window: the scores carry no success, so no pass rate is ever known; use a reward that sets it"
            warnings.warn(text, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"counts": {key: list(value) for key, value in self.counts.items()}, "warned": self._warned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.counts = {key: [float(number) for number in value] for key, value in state["counts"].items()}
        self._warned = bool(state["warned"])


part = DifficultyWindow
