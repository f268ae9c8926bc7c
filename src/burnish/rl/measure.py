"""Measure: what parts declare to need of a model, computed once, in chunks, without gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from burnish.models.needs import Need, Term
from burnish.models.policy import Policy
from burnish.models.rows import temperatures
from burnish.records import Rollout
from burnish.runs.errors import UserError, did_you_mean

Measured = dict[str, Any]
"""Need.key -> Tensor[K] over the loss tokens (rollouts in order), or a list with one entry for each rollout (a reduction)."""


@dataclasses.dataclass
class Measurer:
    """models: name -> Policy; "policy" is the learner's own, "reference" the frozen one where a part asks for it.

    micro_tokens: upper bound on the tokens of one forward pass. observe: told (model, rollouts, share_prefix) of passes without gradient.
    """

    models: Mapping[str, Policy]
    micro_tokens: int = 16384
    share_prefix: bool = True
    observe: Callable[[Any, Sequence[Rollout], bool], None] | None = None

    def check(self, needs: Sequence[Need]) -> None:
        """Raises UserError where a need names a model that the run does not have."""
        for need in needs:
            if need.model not in self.models:
                raise UserError(
                    f"a part needs {need.key!r} of model {need.model!r}, which this run lacks; {did_you_mean(need.model, self.models)}"
                )

    def measure(self, rollouts: Sequence[Rollout], needs: Sequence[Need]) -> Measured:
        """Nothing asked for, nothing computed. Needs with one model and one context share a forward pass."""
        return self._score(rollouts, needs, grad=False, share_prefix=self.share_prefix)

    def differentiate(self, rollouts: Sequence[Rollout], needs: Sequence[Need], share_prefix: bool = True) -> Measured:
        """The same with gradient, for one micro-batch: each model that the needs name goes through one forward pass."""
        return self._score(rollouts, needs, grad=True, share_prefix=share_prefix)

    def _score(self, rollouts: Sequence[Rollout], needs: Sequence[Need], grad: bool, share_prefix: bool) -> Measured:
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
            if self.observe is not None and not grad:
                self.observe(self.models[model].model, seen, share_prefix)
            micro_tokens = None if grad else self.micro_tokens
            extras = {need.key: self._given(seen, need.what.given) for need in members if isinstance(need.what, Term) and need.what.given}
            out |= self.models[model].score(
                seen, members, grad=grad, micro_tokens=micro_tokens, share_prefix=share_prefix, extras=extras
            )  # fmt: skip
        return out

    def _given(self, rollouts: Sequence[Rollout], given: Sequence[Need]) -> dict[str, Any]:
        """The extras of a Term that reads what other models say of the same tokens."""
        found = {key: torch.cat(value) if isinstance(value, list) else value for key, value in self.measure(rollouts, given).items()}
        heads = {need.key: self.models[need.model].head for need in given}
        return {**found, "heads": heads, "temperature": temperatures(rollouts)}


def models_of(needs: Sequence[Need]) -> set[str]:
    """The models that needs name, those whose results are given to a Term included."""
    return {one.model for need in needs for one in (need, *(need.what.given if isinstance(need.what, Term) else ()))}


def part_of(measured: Measured, rollouts: Sequence[Rollout], start: int, end: int) -> Measured:
    """The share of rollouts[start:end]."""
    before = sum(rollout.n_loss_tokens for rollout in rollouts[:start])
    size = sum(rollout.n_loss_tokens for rollout in rollouts[start:end])
    return {key: value[before : before + size] if isinstance(value, torch.Tensor) else value[start:end] for key, value in measured.items()}
