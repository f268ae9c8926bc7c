"""What HERO is compared with: the scorer alone, a weighted sum of both signals, and the scorer only where the verifier is silent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Score
from burnish.rl.rewards.hero.bands import ranks
from burnish.rl.rewards.hero.shaper import Scored
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class ScorerOnly(Scored):
    """reward = score; the verifier's word stays in `success`. A rollout without a score is invalid."""

    def __init__(self, scorer: Any = None, name: str = "scorer_only"):
        super().__init__(scorer, name)

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with their reward replaced; invalid ones as they are."""
        right, raw = self.read(group, scores, measured)
        return [self._one(*one) for one in zip(scores, self.rewards(right, raw).tolist(), raw.tolist(), right.tolist())]

    def rewards(self, right: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """float64 [N], NaN where there is none. right: bool [N]. raw: float64 [N]."""
        return raw

    def _one(self, score: Score, reward: float, raw: float, right: bool) -> Score:
        if score.invalid:
            return score
        if not math.isfinite(reward):
            return dataclasses.replace(score, invalid=True, extras={**score.extras, "reason": f"{self.name}: the scorer gave no score"})
        return self.shaped(score, reward, raw, right)


class Blend(ScorerOnly):
    """reward = a v + (1 - a) s with v in {0, 1}: nothing keeps a wrong completion with a high score below a right one."""

    def __init__(self, scorer: Any = None, a: float = 0.5, name: str = "blend"):
        super().__init__(scorer, name)
        if not 0 <= a <= 1:
            raise UserError(f"shaper {name}: a is {a}; it must be in [0, 1]")
        self.a = a

    def rewards(self, right: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """a v + (1 - a) s."""
        return self.a * right + (1 - self.a) * raw


class GatedFallback(ScorerOnly):
    """reward = v where the valid rollouts of the group differ in v; else their rank by score in [0, scale] (equal scores share a place)."""

    def __init__(self, scorer: Any = None, scale: float = 1.0, name: str = "gated_fallback"):
        super().__init__(scorer, name)
        if not scale > 0:
            raise UserError(f"shaper {name}: scale is {scale}; it must be above 0")
        self.scale = scale

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with their reward replaced; invalid ones as they are."""
        right, raw = self.read(group, scores, measured)
        valid = np.array([not one.invalid for one in scores], dtype=bool)
        rewards = np.zeros(len(scores))
        rewards[valid] = self.rewards(right[valid], raw[valid])
        return [self._one(*one) for one in zip(scores, rewards.tolist(), raw.tolist(), right.tolist())]

    def rewards(self, right: np.ndarray, raw: np.ndarray) -> np.ndarray:
        """Of the valid rollouts; a missing score takes the middle place."""
        mixed = bool(right.any()) and not bool(right.all())
        return right.astype(np.float64) if mixed else self.scale * ranks(raw)
