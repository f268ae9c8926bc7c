"""Baselines: what a rollout's return is compared with. Table "1. Credit" of the RL objective catalogue.

Return = reward + sum of token rewards. Statistics run over the kept rollouts of a group (one prompt, one agent); where a group has
fewer than two of them left, group baselines give 0: there is nothing to compare with.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from burnish.rl.credit.steps import Draft, Step
from burnish.runs.errors import UserError


class NoBaseline(Step):
    """A = r (REINFORCE, REINFORCE++)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r"
    tex: ClassVar = r"A_i = r_i"
    name: Literal["none"] = "none"

    def __call__(self, draft: Draft) -> Draft:
        """As it is."""
        return draft


class Moving(Step):
    """A = r - b with b an exponential average for each agent: starts at 0, used first and updated after, rollout by rollout (RAE)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r - b, b := {decay} b + {rest} r for each agent"
    tex: ClassVar = r"A_i = r_i - b, \quad b \leftarrow <decay>\, b + <rest>\, r_i"
    name: Literal["moving"] = "moving"
    decay: float = Field(0.95, ge=0, lt=1, description="share of the old average that stays")

    @property
    def rest(self) -> float:
        """Share of the new value."""
        return round(1 - self.decay, 12)

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
    tex: ClassVar = r"A_i = r_i - \mathrm{mean}_g\, r"
    group: ClassVar = True
    name: Literal["group_mean"] = "group_mean"

    def __call__(self, draft: Draft) -> Draft:
        """Centred in each group."""
        return _alone_is_zero(draft, draft.less(draft.group_sum(draft.returns) / draft.group_count()))


class LeaveOneOut(Step):
    """A = r_i - mean of the others = G/(G-1) (r_i - mean) (RLOO)."""

    kind: ClassVar = "baseline"
    formula: ClassVar = "A = r_i - mean_(j != i) r_j"
    tex: ClassVar = r"A_i = r_i - \frac{1}{G - 1} \sum_{j \neq i} r_j"
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
    tex: ClassVar = r"A_i = r_i - \frac{\sum_g L_j r_j}{\sum_g L_j}"
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
    thinker: ClassVar = ("greedy", "with_greedy")
    formula: ClassVar = "A = r - r(greedy completion)"
    tex: ClassVar = r"A_i = r_i - r_{\mathrm{greedy}}"
    name: Literal["greedy"] = "greedy"

    def __call__(self, draft: Draft) -> Draft:
        """UserError where a prompt with kept rollouts has no greedy completion."""
        table = draft.batch.table
        base = draft.batch.greedy[table.prompt]
        missing = table.prompt[draft.kept & base.isnan()]
        if len(missing):
            raise UserError(f"baseline 'greedy': group {int(missing[0])} has no completion drawn at temperature 0; add one to each group")
        return draft.less(base)


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
}
