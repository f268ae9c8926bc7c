"""Drops rollouts that a limit cut off: their reward says nothing of how they would have ended (DAPO's overlong filtering)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from burnish.records import Group
from burnish.rl.filters.result import FilterResult, all_valid
from burnish.runs.config import Config


class Truncated(Config):
    """Single rollouts, not their groups; see `Rollout.truncated`."""

    name: Literal["truncated"] = "truncated"

    def __call__(self, groups: Sequence[Group]) -> FilterResult:
        """counts["truncated"]: rollouts dropped."""
        keep, dropped = all_valid(groups), 0
        for flags, group in zip(keep, groups, strict=True):
            for place, rollout in enumerate(group.rollouts):
                if flags[place] and rollout.truncated:
                    flags[place] = False
                    dropped += 1
        return FilterResult(keep, counts={self.name: dropped})


part = Truncated
