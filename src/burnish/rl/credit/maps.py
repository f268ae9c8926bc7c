"""Token maps: how a rollout's credit is laid over its tokens. Constant over tokens where the chain names no map."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from pydantic import Field

from burnish.models.needs import Need
from burnish.rl.credit.columns import column_of
from burnish.rl.credit.steps import Draft, Step, at_last_token, measured, to_go

ENTROPY = Need(what="entropy")


class Constant(Step):
    """The rollout's credit (reward and token rewards together, less the baseline) on each of its tokens."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t = A"
    tex: ClassVar = r"A_t = A_i"
    name: Literal["constant"] = "constant"

    def __call__(self, draft: Draft) -> Draft:
        """The default, by name."""
        return dataclasses.replace(draft, tokens=draft.spread())


class ToGo(Step):
    """Discounted reward to go: the (centred) reward sits on the last loss token, token rewards at their own (REINFORCE++)."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t = sum_(t' >= t) {gamma}^(t'-t) r_t'"
    tex: ClassVar = r"A_t = \sum_{s \geq t} <gamma>^{s - t}\, r_s"
    name: Literal["to_go"] = "to_go"
    gamma: float = Field(1.0, ge=0, le=1, description="discount")

    def __call__(self, draft: Draft) -> Draft:
        """gamma^(L-t) A for a reward at the end alone."""
        table = draft.batch.table
        return dataclasses.replace(draft, tokens=to_go(table, draft.dense + at_last_token(table, draft.terminal), self.gamma))


class TopEntropy(Step):
    """Only the most uncertain tokens of the batch learn: A_t = 0 where H_t is below the quantile; denominators stay."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t := A_t where H_t >= quantile_(1 - {share}) H, else 0"
    tex: ClassVar = r"A_t \leftarrow A_t\, [H_t \geq Q_{1 - <share>}(H)]"
    name: Literal["top_entropy"] = "top_entropy"
    share: float = Field(0.2, gt=0, le=1, description="share of tokens that keep their credit")

    def needs(self) -> tuple[Need, ...]:
        """Entropies at the update's start."""
        return (ENTROPY,)

    def __call__(self, draft: Draft) -> Draft:
        """The quantile (linear interpolation) is taken over the kept loss tokens of the batch."""
        kept = draft.batch.table.kept_tokens
        entropy = measured(draft, ENTROPY.key, self.name)
        if not bool(kept.any()):
            return dataclasses.replace(draft, tokens=draft.spread())
        ranked = entropy[kept].sort().values  # torch.quantile refuses more than 16 million values
        place = (1 - self.share) * (len(ranked) - 1)
        low = int(place)
        high = min(low + 1, len(ranked) - 1)
        threshold = ranked[low] + (ranked[high] - ranked[low]) * (place - low)
        return dataclasses.replace(draft, tokens=torch.where(kept & (entropy >= threshold), draft.spread(), torch.zeros_like(entropy)))


class EntropyShaped(Step):
    """A_t + min(alpha H_t, |A_t| / kappa) ("Reasoning with Exploration: An Entropy Perspective"; constants from memory of the paper)."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t := A_t + min({alpha} H_t, |A_t| / {kappa})"
    tex: ClassVar = r"A_t \leftarrow A_t + \min(<alpha> H_t,\, |A_t| / <kappa>)"
    name: Literal["entropy_shaped"] = "entropy_shaped"
    alpha: float = Field(0.4, ge=0, description="weight of the entropy")
    kappa: float = Field(2.0, gt=1, description="bound: the bonus stays under |A| / kappa, so that no sign flips")

    def needs(self) -> tuple[Need, ...]:
        """Entropies at the update's start."""
        return (ENTROPY,)

    def __call__(self, draft: Draft) -> Draft:
        """Entropies carry no gradient."""
        tokens = draft.spread()
        bonus = torch.minimum(self.alpha * measured(draft, ENTROPY.key, self.name), tokens.abs() / self.kappa)
        return dataclasses.replace(draft, tokens=tokens + bonus)


class Marked(Step):
    """A_t + alpha |A_t| on marked tokens, the others as they are: more credit and less blame where it is planned (HICRA).

    Which tokens are marked (not 0) says a token column, see `credit/columns.py`.
    """

    kind: ClassVar = "map"
    formula: ClassVar = "A_t := A_t + {alpha} |A_t| on tokens marked in {column!r}"
    tex: ClassVar = r"A_t \leftarrow A_t + <alpha>\, |A_t|\, [t \in <column>]"
    name: Literal["marked"] = "marked"
    alpha: float = Field(0.2, ge=0, description="weight of the bonus")
    column: str = Field("planning", description="token column that marks them")

    @property
    def columns(self) -> tuple[str, ...]:
        """The one."""
        return (self.column,)

    def __call__(self, draft: Draft) -> Draft:
        """The sign of the credit never flips for alpha < 1."""
        tokens = draft.spread()
        marked = measured(draft, column_of(self.column), self.name) != 0
        return dataclasses.replace(draft, tokens=torch.where(marked, tokens + self.alpha * tokens.abs(), tokens))


parts = {"constant": Constant, "to_go": ToGo, "top_entropy": TopEntropy, "entropy_shaped": EntropyShaped, "marked": Marked}
