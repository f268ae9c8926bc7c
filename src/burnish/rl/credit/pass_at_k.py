"""pass_at_k: credit for the best of k completions, in closed form over all subsets of a group."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from burnish.rl.credit.steps import Draft, Step


class PassAtK(Step):
    """A set of k completions is worth the reward of its best; each member is credited with what the sets that hold it are worth.

    form "centred": mean of best(S) over the sets S that hold i, less the mean over all sets (Pass@k training, arXiv 2508.10751, the
    analytical advantage; binary rewards there, any here). k = 1 is `group_mean`. "marginal": k times the mean over the sets that hold i
    of best(S) - best(S without i), best of nothing = 0 (PKPO, arXiv 2505.15201, the leave-one-out-minus-one baseline).
    by_std: divide by the standard deviation of best(S) over all sets, 0 where it is 0 (Pass@k training).
    Sets are drawn from the kept rollouts of a prompt; where these are too few to compare, the credit is 0. Rewards at tokens count into
    their rollout's return. Raises ValueError for by_std with "marginal".
    """

    kind: ClassVar = "baseline"
    formula: ClassVar = "A_i = mean_(S has i, |S| = {k}) max_S r - mean_(|S| = {k}) max_S r"
    tex: ClassVar = r"A_i = \mathrm{E}_{S \ni i,\, |S| = <k>} \max_{j \in S} r_j - \mathrm{E}_{|S| = <k>} \max_{j \in S} r_j"
    group: ClassVar = True
    name: Literal["pass_at_k"] = "pass_at_k"
    k: int = Field(4, ge=1, description="completions of a set")
    form: Literal["centred", "marginal"] = Field("centred", description="less the mean over all sets, or less the best of the others")
    by_std: bool = Field(False, description="divide by the standard deviation over all sets")

    @model_validator(mode="after")
    def _sensible(self) -> PassAtK:
        if self.by_std and self.form == "marginal":
            raise ValueError("pass_at_k: by_std belongs to form 'centred'; leave it out, or choose that form")
        return self

    @property
    def least_group(self) -> int:
        """With k rollouts there is one set only, which compares nothing."""
        return self.k + 1 if self.form == "centred" else max(2, self.k)

    def describe(self) -> str:
        """The form in use."""
        if self.form == "marginal":
            return f"A_i = {self.k} mean_(S has i, |S| = {self.k}) (max_S r - max_(S without i) r)"
        return super().describe() + (f", divided by std_(|S| = {self.k}) max_S r" if self.by_std else "")

    def latex(self) -> str:
        """The form in use."""
        if self.form == "marginal":
            best = r"\max_{j \in S} r_j - \max_{j \in S \setminus i} r_j"
            return self.fill(r"A_i = <k> \; \mathrm{E}_{S \ni i,\, |S| = <k>} \left( " + best + r" \right)")
        if not self.by_std:
            return super().latex()
        top, below = super().latex().removeprefix("A_i = "), self.fill(r"\mathrm{std}_{|S| = <k>} \max_{j \in S} r_j")
        return rf"A_i = \left( {top} \right) / {below}"

    def __call__(self, draft: Draft) -> Draft:
        """Group by group; n log n for n rollouts."""
        credit = torch.zeros_like(draft.terminal)
        returns = draft.returns
        for group in draft.batch.group.unique():
            members = ((draft.batch.group == group) & draft.kept).nonzero()[:, 0]
            if len(members) >= self.least_group:
                credit[members] = torch.tensor(self.credit(returns[members].tolist()), dtype=credit.dtype)
        return dataclasses.replace(draft.less(returns - credit))

    def credit(self, rewards: Sequence[float]) -> list[float]:
        """Of one group: at least `least_group` rewards."""
        n, k = len(rewards), self.k
        order = sorted(range(n), key=lambda place: rewards[place])
        ranked = [rewards[place] for place in order]
        inside, others = _means_with(ranked, k), _means_others(ranked, k)
        if self.form == "marginal":
            found = [k * (mean - rest) for mean, rest in zip(inside, others)]
        else:
            share = [math.comb(m, k - 1) / math.comb(n, k) for m in range(n)]  # of the sets whose best is the m-th lowest
            mean = math.fsum(part * value for part, value in zip(share, ranked))
            std = math.sqrt(math.fsum(part * (value - mean) ** 2 for part, value in zip(share, ranked)))
            scale = (0.0 if ranked[0] == ranked[-1] or std == 0 else 1 / std) if self.by_std else 1.0
            found = [scale * (value - mean) for value in inside]
        out = [0.0] * n
        for place, value in zip(order, found):
            out[place] = value
        return out


def _means_with(ranked: Sequence[float], k: int) -> list[float]:
    """Mean of max(S) over the sets of k that hold the i-th lowest: it is the best of C(i, k-1) of them, the m-th of C(m-1, k-2)."""
    n, total = len(ranked), math.comb(len(ranked) - 1, k - 1)
    out, above = [0.0] * n, 0.0
    for i in reversed(range(n)):
        out[i] = math.comb(i, k - 1) / total * ranked[i] + above
        if k >= 2 and i >= 1:
            above += math.comb(i - 1, k - 2) / total * ranked[i]
    return out


def _means_others(ranked: Sequence[float], k: int) -> list[float]:
    """Mean of max(S without i) over the sets of k that hold the i-th lowest: sets of k - 1 of the others; 0 for k = 1."""
    n, total = len(ranked), math.comb(len(ranked) - 1, k - 1)
    if k == 1:
        return [0.0] * n
    below = [0.0]  # shares of those under the place: the m-th lowest of the others is the best of C(m, k-2) sets
    above = [0.0]
    for m in range(n):
        below.append(below[-1] + math.comb(m, k - 2) / total * ranked[m])
        above.append(above[-1] + (math.comb(m - 1, k - 2) / total * ranked[m] if m >= 1 else 0.0))
    return [below[i] + above[n] - above[i + 1] for i in range(n)]


parts = {"pass_at_k": PassAtK}
