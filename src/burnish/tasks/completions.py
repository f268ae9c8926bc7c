"""Completions: what a reward sees of one item's rollouts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from burnish.records import Item, Rollout, Score


@dataclasses.dataclass
class Completions:
    """The rollouts of one item before they are scored, with their text.

    texts: one string per rollout, a view of its output ids without the end-of-sequence token; the ids remain the truth.
    Raises ValueError where the lengths differ.
    """

    item: Item
    rollouts: list[Rollout]
    texts: list[str]

    def __post_init__(self) -> None:
        if len(self.rollouts) != len(self.texts):
            raise ValueError(f"item {self.item.id!r}: {len(self.rollouts)} rollouts but {len(self.texts)} texts")


Reward = Callable[[Any, dict[str, Any]], list[Score]]
"""`reward(group, measured)`: one Score per rollout of the group (`.item`, `.rollouts`, `.texts`), in order."""
