"""Measure: what parts declare to need of a model, computed once, in chunks, without gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from burnish.models.needs import Need
from burnish.models.policy import Policy
from burnish.records import Rollout
from burnish.runs.errors import UserError, did_you_mean

Measured = dict[str, Any]
"""Need.key -> Tensor[K] over the loss tokens (rollouts in order), or a list with one entry for each rollout (a reduction)."""


@dataclasses.dataclass
class Measurer:
    """models: name -> Policy; "policy" is the learner's own, "reference" the frozen one where a part asks for it.

    micro_tokens: upper bound on the tokens of one forward pass.
    """

    models: Mapping[str, Policy]
    micro_tokens: int = 16384
    share_prefix: bool = True

    def check(self, needs: Sequence[Need]) -> None:
        """Raises UserError where a need names a model that the run does not have."""
        for need in needs:
            if need.model not in self.models:
                raise UserError(
                    f"a part needs {need.key!r} of model {need.model!r}, which this run lacks; {did_you_mean(need.model, self.models)}"
                )

    def measure(self, rollouts: Sequence[Rollout], needs: Sequence[Need]) -> Measured:
        """Nothing asked for, nothing computed. Needs with one model and one context share a forward pass."""
        unique = {need.key: need for need in needs}
        self.check(list(unique.values()))
        passes: dict[Any, list[Need]] = {}
        for need in unique.values():
            passes.setdefault((need.model, need.context), []).append(need)
        out: Measured = {}
        for (model, context), members in passes.items():
            seen = [context(rollout) for rollout in rollouts] if context else list(rollouts)
            if context and [r.n_loss_tokens for r in seen] != [r.n_loss_tokens for r in rollouts]:
                raise UserError(f"the context of need {members[0].key!r} changed the loss tokens; it may change contexts only")
            out |= self.models[model].score(seen, members, grad=False, micro_tokens=self.micro_tokens, share_prefix=self.share_prefix)
        return out


def part_of(measured: Measured, rollouts: Sequence[Rollout], start: int, end: int) -> Measured:
    """The share of rollouts[start:end]."""
    before = sum(rollout.n_loss_tokens for rollout in rollouts[:start])
    size = sum(rollout.n_loss_tokens for rollout in rollouts[start:end])
    return {key: value[before : before + size] if isinstance(value, torch.Tensor) else value[start:end] for key, value in measured.items()}
