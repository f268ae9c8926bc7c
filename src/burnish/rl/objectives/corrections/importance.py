"""Table "4. Off-policy correction" of the RL objective catalogue: `c = correction(point)` [k], detached, multiplies the surrogate.

A dropped token or rollout has c = 0 and stays in the denominators.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.objectives.knob import Knob, Point, clamped


class Correction(Knob):
    """Base."""

    def __call__(self, x: Point) -> Tensor:
        """c [k]."""
        raise NotImplementedError


class Importance(Correction):
    """Base of those that read exp(l_o - l_b), by token or by rollout (mean or sum of the log-ratios)."""

    level: Literal["token", "sequence"] = Field("token", description="one factor for each token or for each rollout")
    reduce: Literal["mean", "sum"] = Field("mean", description="of a rollout's log-ratios, where level is sequence")

    @property
    def reduced(self) -> str:
        """The log-ratio in use, in words."""
        return "l_o - l_b" if self.level == "token" else f"{self.reduce}_t (l_o - l_b)"

    @property
    def reduced_tex(self) -> str:
        """The same in LaTeX."""
        over = {"mean": r"\frac{1}{L_i} \sum_t", "sum": r"\sum_t"}[self.reduce]
        return "l_o - l_b" if self.level == "token" else over + " (l_o - l_b)"

    def ratio(self, x: Point, level: str) -> Tensor:
        """exp(l_o - l_b) at the level, [k]."""
        difference = (x.start - x.sampler).detach()
        if level == "sequence":
            difference = x.table.spread(x.table.mean(difference) if self.reduce == "mean" else x.table.sum(difference))
        return clamped(difference).exp()


class Truncate(Importance):
    """min(exp(l_o - l_b), cap) (truncated importance sampling)."""

    formula: ClassVar = "c = min(exp({reduced}), {cap})"
    tex: ClassVar = r"c = \min(\exp(<reduced_tex>),\, <cap>)"
    name: Literal["truncate"] = "truncate"
    cap: float = Field(2.0, gt=0, description="upper bound of the factor")

    def __call__(self, x: Point) -> Tensor:
        """Bounded above only."""
        return self.ratio(x, self.level).clamp(max=self.cap)


class Mask(Importance):
    """0 where exp(l_o - l_b) leaves [lower, upper].

    factor: what is left inside: "own" the ratio at the same level, "token" the token's own ratio, "one" 1.
    """

    formula: ClassVar = "c = {inside} where exp({reduced}) in [{lower}, {upper}], else 0"
    tex: ClassVar = r"c = <inside_tex>\, [<lower> \leq \exp(<reduced_tex>) \leq <upper>]"
    name: Literal["mask"] = "mask"
    lower: float = Field(0.5, ge=0, description="lower bound")
    upper: float = Field(2.0, gt=0, description="upper bound")
    factor: Literal["own", "token", "one"] = Field("own", description="the factor inside the bounds")

    @property
    def inside(self) -> str:
        """What is left inside the bounds, in words."""
        return {"own": f"exp({self.reduced})", "token": "exp(l_o - l_b)", "one": "1"}[self.factor]

    @property
    def inside_tex(self) -> str:
        """The same in LaTeX."""
        return {"own": rf"\exp({self.reduced_tex})", "token": r"\exp(l_o - l_b)", "one": "1"}[self.factor]

    def __call__(self, x: Point) -> Tensor:
        """The bounds belong to the inside."""
        ratio = self.ratio(x, self.level)
        inside = (ratio >= self.lower) & (ratio <= self.upper)
        value = {"own": ratio, "token": self.ratio(x, "token"), "one": torch.ones_like(ratio)}[self.factor]
        return torch.where(inside, value, torch.zeros_like(value))


class DropStaleNegative(Correction):
    """0 on rollouts with A < 0 (mean over tokens) whose mean of l_b - l is above delta; they stay in the denominators, as in TRL."""

    formula: ClassVar = "c = 0 on rollouts with A < 0 and mean_t (l_b - l) > {delta}"
    tex: ClassVar = r"c = 1 - [A < 0,\, \frac{1}{L_i} \sum_t (l_b - l) > <delta>]"
    name: Literal["drop_stale_negative"] = "drop_stale_negative"
    delta: float = Field(0.5, description="nats per token")

    def __call__(self, x: Point) -> Tensor:
        """1 elsewhere."""
        stale = x.table.mean((x.sampler - x.logp).detach()) > self.delta
        negative = x.table.mean(x.advantage) < 0
        return x.table.spread((~(stale & negative)).to(x.logp.dtype))


parts = {"truncate": Truncate, "mask": Mask, "drop_stale_negative": DropStaleNegative}
