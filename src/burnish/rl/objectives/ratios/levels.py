"""Table "2. Ratio" of the RL objective catalogue. A ratio is a pure function of log-probs and segments."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.objectives.knob import Knob, clamped
from burnish.rl.objectives.tokens import TokenTable


class Ratio(Knob):
    """Base: `rho = ratio(logp, ref_point, table)`, all [K]; logp carries the gradient."""

    level: ClassVar[str]
    against: Literal["start", "sampler"] = Field("start", description="start: l_o, the update's start policy; sampler: l_b, behaviour")

    @property
    def point(self) -> str:
        """The index of the log-prob it is taken against: o or b."""
        return "o" if self.against == "start" else "b"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """rho [K]."""
        raise NotImplementedError


class TokenRatio(Ratio):
    """exp(l - ref_point)."""

    formula: ClassVar = "rho_t = exp(l_t - l_{point},t)"
    tex: ClassVar = r"\rho_t = \exp(l_t - l_{<point>,t})"
    level: ClassVar = "token"
    name: Literal["token"] = "token"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """Each token its own."""
        return clamped(logp - ref_point).exp()


class SequenceRatio(Ratio):
    """exp(mean over the rollout's loss tokens of l - ref_point), the same for all of them, gradient through all (GSPO)."""

    formula: ClassVar = "rho = exp(mean_t (l_t - l_{point},t))"
    tex: ClassVar = r"\rho_i = \exp \left( \frac{1}{L_i} \sum_t (l_t - l_{<point>,t}) \right)"
    level: ClassVar = "sequence"
    name: Literal["sequence"] = "sequence"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """Broadcast over the rollout."""
        return table.spread(clamped(table.mean(logp - ref_point)).exp())


class SequenceTokenRatio(Ratio):
    """Value of `sequence`, gradient of token t only: exp(sg(s) + l_t - sg(l_t)) (GSPO-token)."""

    formula: ClassVar = "rho_t = exp(sg(mean_t (l_t - l_{point},t)) + l_t - sg(l_t))"
    tex: ClassVar = r"\rho_t = \exp(\mathrm{sg}[s_i] + l_t - \mathrm{sg}[l_t]), \quad s_i = \frac{1}{L_i} \sum_t (l_t - l_{<point>,t})"
    level: ClassVar = "sequence"
    name: Literal["sequence_token"] = "sequence_token"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """The difference is exactly 0, its gradient 1."""
        fixed = table.spread(table.mean(logp.detach() - ref_point))
        return clamped(fixed + logp - logp.detach()).exp()


class GeometricRatio(Ratio):
    """exp of the mean of the clamped log-ratios; `gmpo` clips them by token before the mean (GMPO)."""

    formula: ClassVar = "rho = exp(mean_t clip(l_t - l_{point},t))"
    tex: ClassVar = r"d_t = l_t - l_{<point>,t}"
    level: ClassVar = "geometric"
    name: Literal["geometric"] = "geometric"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """Broadcast over the rollout."""
        return table.spread(table.mean(clamped(logp - ref_point)).exp())


class NoRatio(Ratio):
    """1: for surrogates that use log-probs alone."""

    formula: ClassVar = "rho = 1"
    tex: ClassVar = r"\rho = 1"
    level: ClassVar = "none"
    name: Literal["none"] = "none"

    def __call__(self, logp: Tensor, ref_point: Tensor, table: TokenTable) -> Tensor:
        """Ones."""
        return torch.ones_like(logp)


parts = {
    "token": TokenRatio,
    "sequence": SequenceRatio,
    "sequence_token": SequenceTokenRatio,
    "geometric": GeometricRatio,
    "none": NoRatio,
}
