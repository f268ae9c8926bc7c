"""Reward of a chain: 1 where the last answer is right and the completion ended by itself, else 0. h1 (arXiv 2510.07312)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.records import Score
from burnish.rl.rewards.verifier import Verifier
from burnish.tasks.completions import Completions
from burnish.tasks.long_horizon_chains import is_right


class FinalAnswer(Verifier):
    """check: `check(text, columns) -> bool` in place of the last boxed or last number; the column `answer` is compared by default.

    A truncated completion scores 0: a number that stands last in it is an answer on the way, not the final one.
    """

    def __init__(self, check: Any = is_right):
        super().__init__(check, name="final_answer")

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        scores = super().__call__(group, measured)
        for rollout, score in zip(group.rollouts, scores):
            if rollout.truncated and not score.invalid:
                score.reward, score.success = 0.0, 0.0
                score.parts = {**score.parts, self.name: 0.0}
        return scores


part = FinalAnswer
