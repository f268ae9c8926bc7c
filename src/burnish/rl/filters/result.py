"""What a filter says of the groups it was shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from burnish.records import Group


@dataclasses.dataclass
class FilterResult:
    """keep: one flag for each rollout of each group, in their order; a group is dropped where all its flags are False.

    more: how many groups to draw in addition. counts: what was dropped, by reason (metrics `filter/<reason>`).
    What is not kept leaves the statistics of credit, the denominators and the loss.
    """

    keep: list[list[bool]]
    more: int = 0
    counts: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def groups(self) -> list[bool]:
        """One flag for each group: whether any of its rollouts is kept."""
        return [any(flags) for flags in self.keep]


def all_valid(groups: Sequence[Group]) -> list[list[bool]]:
    """Flags that keep every rollout whose score is valid."""
    return [[not score.invalid for score in group.scores] for group in groups]


def both(a: list[list[bool]], b: list[list[bool]]) -> list[list[bool]]:
    """Kept by both."""
    return [[x and y for x, y in zip(mine, theirs, strict=True)] for mine, theirs in zip(a, b, strict=True)]
