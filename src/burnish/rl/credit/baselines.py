"""Baselines: what a rollout's return is compared with. Table "1. Credit" of the RL objective catalogue.

Return = reward + sum of token rewards. Statistics run over the kept rollouts of a group (one prompt, one agent); where a group has
fewer than two of them left, group baselines give 0: there is nothing to compare with.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.models.needs import Need
from burnish.rl.credit.steps import Draft, Step, at_last_token, measured, to_go
from burnish.runs.errors import UserError


class NoBaseline(Step):
    """A = r (REINFORCE, REINFORCE++)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r"
    name: Literal["none"] = "none"

    def __call__(self, draft: Draft) -> Draft:
        """As it is."""
        return draft


class Moving(Step):
    """A = r - b with b an exponential average for each agent: starts at 0, used first and updated after, rollout by rollout (RAE)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r - b, b <- {decay} b + (1 - {decay}) r for each agent"
    name: Literal["moving"] = "moving"
    decay: float = Field(0.95, ge=0, lt=1, description="share of the old average that stays")

    def __call__(self, draft: Draft) -> Draft:
        """Subtracts the averages and moves them; they live in the chain's memory."""
        averages = draft.memory.setdefault("moving", {})
        used = []
        for agent, kept, value in zip(draft.batch.agent, draft.kept.tolist(), draft.returns.tolist(), strict=True):
            used.append(averages.get(agent, 0.0))
            if kept:
                averages[agent] = self.decay * averages.get(agent, 0.0) + (1 - self.decay) * value
        return draft.less(torch.tensor(used, dtype=torch.float64))


class GroupMean(Step):
    """A = r - mean of the group (GRPO, Dr.GRPO, DAPO, REINFORCE++-baseline)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r - mean_g r"
    group: ClassVar = True
    name: Literal["group_mean"] = "group_mean"

    def __call__(self, draft: Draft) -> Draft:
        """Centred in each group."""
        return _alone_is_zero(draft, draft.less(draft.group_sum(draft.returns) / draft.group_count()))


class LeaveOneOut(Step):
    """A = r_i - mean of the others = G/(G-1) (r_i - mean) (RLOO)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r_i - mean_(j != i) r_j"
    group: ClassVar = True
    name: Literal["leave_one_out"] = "leave_one_out"

    def __call__(self, draft: Draft) -> Draft:
        """Less the mean of the other kept rollouts of the group."""
        others = (draft.group_count() - 1).clamp(min=1)
        return _alone_is_zero(draft, draft.less((draft.group_sum(draft.returns) - draft.returns) / others))


class LengthWeighted(Step):
    """b = sum L_j r_j / sum L_j (OPO)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r - sum_g L r / sum_g L"
    group: ClassVar = True
    name: Literal["length_weighted"] = "length_weighted"

    def __call__(self, draft: Draft) -> Draft:
        """L = loss tokens of the rollout."""
        lengths = draft.batch.table.lengths.double()
        mean = draft.group_sum(lengths * draft.returns) / draft.group_sum(lengths).clamp(min=1)
        return _alone_is_zero(draft, draft.less(mean))


class Greedy(Step):
    """b = reward of the prompt's greedy completion (ReMax): a rollout sampled at temperature 0, whose own advantage comes out as 0."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r - r(greedy completion)"
    name: Literal["greedy"] = "greedy"

    def __call__(self, draft: Draft) -> Draft:
        """UserError where a prompt with kept rollouts has no greedy completion."""
        table = draft.batch.table
        base = draft.batch.greedy[table.prompt]
        missing = table.prompt[draft.kept & base.isnan()]
        if len(missing):
            raise UserError(f"baseline 'greedy': group {int(missing[0])} has no completion drawn at temperature 0; add one to each group")
        return draft.less(base)


class Critic(Step):
    """d_t = r_t + gamma V_(t+1) - V_t, A_t = sum_k (gamma lam)^k d_(t+k) over loss tokens (PPO); the value target is A + V.

    length_alpha: VAPO's lam = 1 - 1/(length_alpha L) for a rollout of L loss tokens, instead of `lam` (from memory of the paper).
    """

    kind: ClassVar = "baseline"
    formula: ClassVar = "A_t = sum_k ({gamma} {lam})^k d_(t+k), d_t = r_t + {gamma} V_(t+1) - V_t"
    name: Literal["critic"] = "critic"
    gamma: float = Field(1.0, ge=0, le=1, description="discount")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of generalised advantage estimation")
    length_alpha: float | None = Field(None, gt=0, description="lam = 1 - 1/(length_alpha L) instead of lam")

    def needs(self) -> tuple[Need, ...]:
        """The critic's values at the update's start."""
        return (Need(what="value"),)

    def __call__(self, draft: Draft) -> Draft:
        """Token advantages from token rewards and values."""
        table = draft.batch.table
        values = measured(draft, Need(what="value").key, self.name)
        rewards = draft.dense + at_last_token(table, draft.terminal)
        following = torch.cat([values[1:], values.new_zeros(1)])[: len(values)]
        following = torch.where(table.from_end() == 0, torch.zeros_like(values), following)
        lam: float | Tensor = self.lam
        if self.length_alpha is not None:
            lam = (1 - 1 / (self.length_alpha * table.lengths.clamp(min=1).double())).clamp(min=0)
        tokens = to_go(table, rewards + self.gamma * following - values, self.gamma * lam)
        return dataclasses.replace(draft, tokens=tokens, value_target=tokens + values)


def _alone_is_zero(before: Draft, after: Draft) -> Draft:
    """0 for the only kept rollout of its group (its token rewards included)."""
    return after.times((before.group_count() > 1).double())


parts = {
    "none": NoBaseline,
    "moving": Moving,
    "group_mean": GroupMean,
    "leave_one_out": LeaveOneOut,
    "length_weighted": LengthWeighted,
    "greedy": Greedy,
    "critic": Critic,
}
