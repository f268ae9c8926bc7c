"""Pass rates of items, as curricula and replay keep them: counted by item id from `Score.success`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from burnish.records import Group


class PassRates:
    """decay: weight of the older rollouts whenever an item is seen again (1: all alike; 0: only the last visit counts).

    min_count: rollouts ever seen of an item before its rate is known. Invalid scores, and scores without success, do not count.
    """

    def __init__(self, decay: float = 1.0, min_count: int = 1):
        self.decay, self.min_count = decay, min_count
        self.counts: dict[str, list[float]] = {}  # item id -> [rollouts, successes (both decayed), rollouts ever seen]

    def rate(self, item_id: str) -> float | None:
        """Successes / rollouts, or None where it is not known yet."""
        count, solved, seen = self.counts.get(item_id, (0.0, 0.0, 0.0))
        return solved / count if seen >= self.min_count and count > 0 else None

    def add(self, groups: Iterable[Group]) -> bool:
        """Counts scored groups; False where none of their scores carries a success."""
        known = False
        for group in groups:
            successes = [float(score.success) for score in group.scores if not score.invalid and score.success is not None]
            if successes:
                known = True
                count, solved, seen = self.counts.get(group.item.id, (0.0, 0.0, 0.0))
                n = len(successes)
                self.counts[group.item.id] = [count * self.decay + n, solved * self.decay + sum(successes), seen + n]
        return known

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {key: list(value) for key, value in self.counts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.counts = {key: [float(number) for number in value] for key, value in state.items()}
