"""Completions: what a reward sees of one item's rollouts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from burnish.records import Item, Rollout, Score
from burnish.runs.errors import UserError


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


def checked_scores(name: str, scores: Any, item_id: str, rollouts: Sequence[Any]) -> list[Score]:
    """What a reward returned, refused (UserError) unless it is a list with one Score for each rollout, finite where it is not invalid."""
    if not isinstance(scores, list) or len(scores) != len(rollouts) or not all(isinstance(score, Score) for score in scores):
        got = f"{len(scores)} values" if isinstance(scores, list) else type(scores).__name__
        raise UserError(
            f"reward {name!r} returned {got} for the {len(rollouts)} rollouts of item {item_id!r}; "
            "it must return a list with one Score for each"
        )
    for score in scores:
        if not score.invalid and not math.isfinite(score.reward):
            raise UserError(
                f"reward {name!r} returned {score.reward!r} for item {item_id!r}; rewards must be finite numbers, a broken verdict invalid"
            )
    return scores
