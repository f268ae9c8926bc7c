"""Scales: what centred credit is divided by. No scale is simply left out of the chain.

N or N-1 and the constant added differ between frameworks and are therefore fields.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.credit.steps import Draft, Step
from burnish.rl.objectives.formula import number


class Std(Step):
    """Base of those that divide by a standard deviation."""

    kind: ClassVar = "scale"
    eps: float = Field(0.0, ge=0, description="added to the std")
    ddof: Literal[0, 1] = Field(0, description="1: divide by N-1; 0: by N")

    @property
    def plus(self) -> str:
        """The constant in words, where there is one."""
        return f" + {self.eps}" if self.eps else ""

    @property
    def plus_tex(self) -> str:
        """The same in LaTeX."""
        return f" + {number(self.eps)}" if self.eps else ""

    @property
    def over(self) -> str:
        """What the squares are divided by."""
        return "N - 1" if self.ddof else "N"


class GroupStd(Std):
    """A / (std of the group's returns + eps), std with N-1 (GRPO, DAPO). Invariant to r -> a r + b with a > 0, up to eps."""

    formula: ClassVar = "A := A / (std_g r{plus}), std over {over}"
    tex: ClassVar = r"A_i \leftarrow \frac{A_i}{\mathrm{std}_g\, r<plus_tex>}"
    group: ClassVar = True
    name: Literal["group_std"] = "group_std"
    eps: float = Field(1e-6, ge=0, description="added to the std: 1e-6 in verl, 1e-4 in TRL")
    ddof: Literal[0, 1] = Field(1, description="1: divide by N-1; 0: by N")

    def __call__(self, draft: Draft) -> Draft:
        """A group whose returns are all equal gets 0."""
        returns, count = draft.returns, draft.group_count()
        centred = returns - draft.group_sum(returns) / count
        std = (draft.group_sum(centred.square()) / (count - self.ddof).clamp(min=1)).sqrt()
        return draft.times(_inverse(std, self.eps))


class BatchStd(Std):
    """A / (std of the centred A over all kept rollouts of the batch + eps) (ScaleRL, LitePPO)."""

    formula: ClassVar = "A := A / (std_batch A{plus}), std over {over}"
    tex: ClassVar = r"A_i \leftarrow \frac{A_i}{\mathrm{std}_{\mathrm{batch}}\, A<plus_tex>}"
    name: Literal["batch_std"] = "batch_std"

    def __call__(self, draft: Draft) -> Draft:
        """Of the centred credit, not of the raw rewards."""
        values = draft.returns[draft.kept]
        centred = values - values.mean() if len(values) else values
        std = (centred.square().sum() / max(len(values) - self.ddof, 1)).sqrt()
        return draft.times(_inverse(std, self.eps).expand(len(draft.kept)))


class ByGroupMean(Step):
    """A / mean reward of the group; 0 where that mean is <= 0 (MaxRL)."""

    kind: ClassVar = "scale"
    formula: ClassVar = "A := A / mean_g r (0 where the mean is <= 0)"
    tex: ClassVar = r"A_i \leftarrow \frac{A_i}{\mathrm{mean}_g\, r}"
    group: ClassVar = True
    name: Literal["by_group_mean"] = "by_group_mean"

    def __call__(self, draft: Draft) -> Draft:
        """The mean is that of the returns before the baseline."""
        raw = Draft.start(draft.batch, {})
        mean = raw.group_sum(raw.returns) / raw.group_count()
        return draft.times(torch.where(mean > 0, 1 / mean, torch.zeros_like(mean)))


class BatchWhiten(Step):
    """(A - mean) / sqrt(var + eps) over all kept loss tokens of the batch, var with N-1 (REINFORCE++, PPO): longer rollouts weigh more."""

    kind: ClassVar = "token_scale"
    formula: ClassVar = "A_t := (A_t - mean_tokens A) / sqrt(var_tokens A + {eps})"
    tex: ClassVar = r"A_t \leftarrow \frac{A_t - \mathrm{mean}_{\mathrm{tokens}}\, A}{\sqrt{\mathrm{var}_{\mathrm{tokens}}\, A + <eps>}}"
    name: Literal["batch_whiten"] = "batch_whiten"
    eps: float = Field(1e-8, ge=0, description="added to the variance")

    def __call__(self, draft: Draft) -> Draft:
        """Without a map so far the rollout's credit counts once for each of its tokens."""
        kept = draft.batch.table.kept_tokens
        tokens = draft.spread()
        values = tokens[kept]
        if len(values) == 0:
            return dataclasses.replace(draft, tokens=torch.zeros_like(tokens))
        centred = tokens - values.mean()
        variance = centred[kept].square().sum() / max(len(values) - 1, 1)
        white = centred * _inverse((variance + self.eps).sqrt(), 0.0)
        return dataclasses.replace(draft, tokens=torch.where(kept, white, torch.zeros_like(white)))


def _inverse(std: Tensor, eps: float) -> Tensor:
    """1 / (std + eps), and 0 where both are 0."""
    total = std + eps
    return torch.where(total > 0, 1 / total, torch.zeros_like(total))


parts = {"group_std": GroupStd, "batch_std": BatchStd, "by_group_mean": ByGroupMean, "batch_whiten": BatchWhiten}
