"""Rewards of length: DAPO's overlong punishment, ScaleRL's for right answers, the cosine reward. Length = loss tokens of the rollout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Score
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class Overlong:
    """0 up to max_length - cache tokens, then falling linearly to -1 at max_length, and -1 beyond (DAPO, equation 13).

    Usable as a reward of its own (added to others) or as a shaper. scale: multiplies the penalty.
    """

    def __init__(self, max_length: int, cache: int, scale: float = 1.0, name: str = "overlong"):
        if not 0 < cache <= max_length:
            raise UserError(f"reward overlong: cache is {cache} and max_length {max_length}; they must satisfy 0 < cache <= max_length")
        self.max_length, self.cache, self.scale, self.name = max_length, cache, scale, name

    def penalty(self, length: int) -> float:
        """In [-scale, 0]."""
        return self.scale * min(max((self.max_length - self.cache - length) / self.cache, -1.0), 0.0)

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The penalties alone; they say nothing of success."""
        penalties = [self.penalty(rollout.n_loss_tokens) for rollout in group.rollouts]
        return [Score(reward=penalty, parts={self.name: penalty}) for penalty in penalties]

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with the penalty added to their reward."""
        return [
            dataclasses.replace(score, reward=score.reward + own.reward, parts={**score.parts, **own.parts})
            for score, own in zip(scores, self(group), strict=True)
        ]


class LengthPenalty:
    """A shaper: Overlong's penalty for right answers only, clip((max_length - |y|)/cache - 1, -1, 0), as in ScaleRL's ablation.

    Reads `Score.success` (right: 0.5 or more); a score without success is refused. Defaults: that paper's.
    """

    def __init__(self, max_length: int = 14000, cache: int = 2000, scale: float = 1.0, name: str = "length_penalty"):
        self.name = name
        self.penalty = Overlong(max_length, cache, scale, name).penalty

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores of right answers with the penalty added; wrong and invalid ones as they are."""
        out = []
        for rollout, score in zip(group.rollouts, scores, strict=True):
            if not score.invalid and score.success is None:
                raise UserError(f"shaper {self.name}: item {group.item.id!r} has a score without success; put a verifier before it")
            right = not score.invalid and score.success is not None and score.success >= 0.5
            own = self.penalty(rollout.n_loss_tokens) if right else 0.0
            parts_now = score.parts if score.invalid else {**score.parts, self.name: own}
            out.append(dataclasses.replace(score, reward=score.reward + own, parts=parts_now))
        return out


class Cosine:
    """A shaper: the reward runs along a half cosine of length, from `short` to `long` values that differ for right and wrong.

    Defaults: right 1.0 -> 0.5 and wrong -1.0 -> -0.5, so that short is best when right and long is least bad when wrong.
    Beyond max_length: `exceeded`. Reads `Score.success` (right: 0.5 or more); a score without success is refused.
    """

    def __init__(
        self,
        max_length: int,
        right: tuple[float, float] = (1.0, 0.5),
        wrong: tuple[float, float] = (-1.0, -0.5),
        exceeded: float = -1.0,
        name: str = "cosine",
    ):
        if max_length < 1:
            raise UserError(f"reward cosine: max_length is {max_length}; it must be at least 1")
        self.max_length, self.right, self.wrong, self.exceeded, self.name = max_length, tuple(right), tuple(wrong), exceeded, name

    def value(self, length: int, success: bool) -> float:
        """The reward of a completion of this length."""
        if length > self.max_length:
            return self.exceeded
        short, long = self.right if success else self.wrong
        return long + 0.5 * (short - long) * (1 + math.cos(math.pi * length / self.max_length))

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with their reward replaced; invalid ones as they are."""
        out = []
        for rollout, score in zip(group.rollouts, scores, strict=True):
            if score.invalid:
                out.append(score)
                continue
            if score.success is None:
                raise UserError(f"shaper cosine: item {group.item.id!r} has a score without success; put a verifier before it")
            reward = self.value(rollout.n_loss_tokens, score.success >= 0.5)
            out.append(dataclasses.replace(score, reward=reward, parts={**score.parts, self.name: reward}))
        return out


parts = {"overlong": Overlong, "length_penalty": LengthPenalty, "cosine": Cosine}
