"""Drops groups whose shaped rewards are all equal: they carry no comparison (DAPO's dynamic sampling, ScaleRL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from burnish.records import Group, Score
from burnish.rl.filters.result import FilterResult, all_valid
from burnish.runs.config import Config


class ZeroVariance(Config):
    """A group stays where two valid rollouts of one agent differ in reward + sum of token rewards by more than eps.

    Rollouts of different agents are not compared. Fewer than two valid rollouts cannot differ: such a group is dropped too.
    """

    name: Literal["zero_variance"] = "zero_variance"
    eps: float = Field(1e-9, ge=0, description="rewards closer than this are equal")

    def __call__(self, groups: Sequence[Group]) -> FilterResult:
        """Whole groups only; counts["zero_variance"] is their number."""
        keep, dropped = all_valid(groups), 0
        for number, group in enumerate(groups):
            by_agent: dict[str, list[float]] = {}
            for rollout, score, valid in zip(group.rollouts, group.scores, keep[number], strict=True):
                if valid:
                    by_agent.setdefault(rollout.agent, []).append(_return(score))
            if all(max(values) - min(values) <= self.eps for values in by_agent.values()):
                keep[number] = [False] * len(keep[number])
                dropped += 1
        return FilterResult(keep, counts={self.name: dropped})


def _return(score: Score) -> float:
    return score.reward + (0.0 if score.token_rewards is None else float(np.sum(score.token_rewards)))


part = ZeroVariance
