"""The credit of the control arms: the same boost as HICRA's, on other tokens."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from pydantic import Field

from burnish.models.needs import Need
from burnish.rl.credit.steps import Draft, Step, measured

ENTROPY = Need(what="entropy")


class BoostUncertain(Step):
    """A_t + alpha |A_t| on the share of the batch's tokens with the highest entropy."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t := A_t + {alpha} |A_t| on the {share} of tokens with the highest entropy"
    tex: ClassVar = r"A_t \leftarrow A_t + <alpha>\, |A_t|\, [H_t \geq Q_{1 - <share>}(H)]"
    name: Literal["boost_uncertain"] = "boost_uncertain"
    alpha: float = Field(0.2, ge=0, lt=1, description="weight of the boost")
    share: float = Field(gt=0, le=1, description="share of tokens")

    def needs(self) -> tuple[Need, ...]:
        """Entropies at the update's start."""
        return (ENTROPY,)

    def __call__(self, draft: Draft) -> Draft:
        """Exactly round(share * kept tokens) tokens; the earlier one where two are equal."""
        kept = draft.batch.table.kept_tokens
        entropy = torch.where(kept, measured(draft, ENTROPY.key, self.name), torch.full((), -1.0, dtype=torch.float64))
        chosen = torch.zeros_like(kept)
        chosen[torch.argsort(-entropy, stable=True)[: round(self.share * int(kept.sum()))]] = True
        tokens = draft.spread()
        return dataclasses.replace(draft, tokens=torch.where(chosen & kept, tokens + self.alpha * tokens.abs(), tokens))


class BoostAll(Step):
    """A_t + alpha |A_t| on every token: the change of step size and the positive bias of HICRA, without its choice of tokens."""

    kind: ClassVar = "map"
    formula: ClassVar = "A_t := A_t + {alpha} |A_t|"
    tex: ClassVar = r"A_t \leftarrow A_t + <alpha>\, |A_t|"
    name: Literal["boost_all"] = "boost_all"
    alpha: float = Field(ge=0, lt=1, description="weight of the boost")

    def __call__(self, draft: Draft) -> Draft:
        """The sign never flips."""
        tokens = draft.spread()
        return dataclasses.replace(draft, tokens=tokens + self.alpha * tokens.abs())
