"""The control arm: rewards that know nothing of the completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.records import Score
from burnish.rl.rewards.errors import PACKAGE
from burnish.runs.errors import UserError
from burnish.runs.parts import make
from burnish.runs.seeds import rng
from burnish.tasks.completions import Completions


class RandomReward:
    """1 with probability p, else 0, from seed, item id and the rollout's index alone: whatever is learned from it is no merit.

    truth: a reward (or its name, or a mapping with its arguments) whose `success` is reported, so that a control run logs true correctness.
    """

    def __init__(self, p: float = 0.5, seed: int = 0, truth: Any = None, name: str = "random"):
        if not 0 <= p <= 1:
            raise UserError(f"reward random: p is {p}; it must be in [0, 1]")
        self.p, self.seed, self.truth, self.name = p, seed, make(PACKAGE, truth), name

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        true = self.truth(group, measured or {}) if self.truth is not None else [None] * len(group.rollouts)
        scores = []
        for rollout, known in zip(group.rollouts, true, strict=True):
            reward = float(rng("random reward", self.seed, group.item.id, rollout.index).random() < self.p)
            success = None if known is None else known.success
            scores.append(Score(reward=reward, success=success, parts={self.name: reward}, invalid=known is not None and known.invalid))
        return scores


parts = {"random": RandomReward}
