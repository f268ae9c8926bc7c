"""Parts that only TRL's arguments ask for: the scale by the batch's raw rewards, VESPO's weight, masked truncation, items in order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from burnish.records import Item, Score
from burnish.rl.credit.steps import Draft, Step
from burnish.rl.curricula.base import Curriculum
from burnish.rl.objectives.knob import Point
from burnish.rl.objectives.surrogates.plain import Surrogate
from burnish.tasks.completions import Completions


class RawBatchStd(Step):
    """A / (std of the raw returns of all kept rollouts + eps), std with N-1: TRL's scale_rewards="batch"."""

    kind: ClassVar = "scale"
    formula: ClassVar = "A / (std_batch r + {eps}), N - 1"
    tex: ClassVar = r"A / (\mathrm{std}_{batch}\, r + <eps>)"
    name: Literal["raw_batch_std"] = "raw_batch_std"
    eps: float = Field(1e-4, ge=0, description="added to the std")

    def __call__(self, draft: Draft) -> Draft:
        """Of the rewards before the baseline."""
        values = Draft.start(draft.batch, {}).returns[draft.kept]
        std = values.std(unbiased=True) if len(values) > 1 else torch.zeros((), dtype=torch.float64)
        return draft.times((1 / (std + self.eps)).expand(len(draft.kept)))


class Vespo(Surrogate):
    """sg(phi(w)) A l, w = exp(sum_t (l - ref_point)) of the rollout, phi(w) = e^b w^k e^(-b w) (VESPO, arXiv 2602.10693, as in TRL)."""

    formula: ClassVar = "S = sg(phi(w)) A l, w = exp(sum_t (l_t - l_o,t)), phi(w) = e^b w^k e^(-b w), (k, b) by the sign of A"
    tex: ClassVar = r"S = \mathrm{sg}(\varphi(w))\, A\, \ell,\ \varphi(w) = e^{b} w^{k} e^{-b w}"
    name: Literal["vespo"] = "vespo"
    k_positive: float = Field(2.0, description="k for A >= 0")
    rate_positive: float = Field(3.0, description="b for A >= 0")
    k_negative: float = Field(3.0, description="k for A < 0")
    rate_negative: float = Field(2.0, description="b for A < 0")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Never bounded: the weight fades on both sides."""
        log_w = x.table.spread(x.table.sum(x.log_ratio.detach()).clamp(math.log(1e-8), 20.0))
        positive = x.advantage >= 0
        k = torch.where(positive, self.k_positive, self.k_negative).to(log_w.dtype)
        rate = torch.where(positive, self.rate_positive, self.rate_negative).to(log_w.dtype).clamp(min=1e-4)
        phi = torch.exp(rate + k * log_w - rate * log_w.exp())
        return phi * x.advantage * x.logp, torch.zeros_like(x.rho, dtype=torch.bool)


class MaskTruncated:
    """A shaper: completions that a limit cut off keep their reward, and so their place in the group's mean and scale and in the count of
    rollouts, but none of their tokens is trained on: TRL's mask_truncated_completions. Their turns are marked as injected.
    """

    def shape(self, group: Completions, scores: list[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The same scores."""
        for rollout in group.rollouts:
            for turn in rollout.turns if rollout.truncated else ():
                turn.injected = np.ones_like(turn.injected)
        return scores


class InOrder(Curriculum):
    """Items in the order of the data, again and again: TRL's shuffle_dataset=False. The state is one counter."""

    def __init__(self, items: Any):
        super().__init__(items)
        self.drawn = 0

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """The next n items."""
        chosen = [self.items[number % len(self.items)] for number in range(self.drawn, self.drawn + n)]
        self.drawn += n
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """The counter."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.drawn = int(state["drawn"])
