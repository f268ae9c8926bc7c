"""The queue between Source and Learner. Lag k: a batch is drawn k updates before it is consumed."""

from __future__ import annotations

import collections
from typing import Any, Protocol

from burnish.rl.batch import Batch
from burnish.rl.source import Source


class Queue(Protocol):
    """What the trainer asks of a queue: this one, or the learner's end of `rl.pipeline`."""

    source: Source

    def get(self, step: int, total: int) -> Batch:
        """The batch of a learner step."""

    def close(self) -> None:
        """Lets go of whatever the queue holds."""

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


class LagQueue:
    """Simulated lag in one process, repeatable bit for bit.

    Batch j is drawn under the weights after update max(0, j - 1 - lag): lag 0 is the ordinary synchronous trainer.
    Batches that wait are part of every checkpoint.
    """

    def __init__(self, source: Source, lag: int = 0) -> None:
        if lag < 0:
            raise ValueError(f"lag is {lag}; it must be at least 0")
        self.source, self.lag = source, lag
        self.waiting: collections.deque[Batch] = collections.deque()
        self.drawn = 0

    def get(self, step: int, total: int) -> Batch:
        """The batch of learner step `step` (1-based). Weights are at version step - 1 when this is called."""
        while self.drawn < min(step + self.lag, total):
            self.drawn += 1
            self.waiting.append(self.source.collect(self.drawn, version=step - 1))
        return self.waiting.popleft()

    def close(self) -> None:
        """Nothing to let go of."""

    def state_dict(self) -> dict[str, Any]:
        """Waiting batches as plain JSON values."""
        return {"drawn": self.drawn, "waiting": [batch.to_dict() for batch in self.waiting]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.drawn = state["drawn"]
        self.waiting = collections.deque(Batch.from_dict(data) for data in state["waiting"])
