"""Table "6. Aggregation" of the RL objective catalogue: `w = weights(table)`, and the loss of any slice is sum(w * per_token).

N = kept rollouts, P = prompts with a kept rollout, Z = loss tokens of kept rollouts. Prompt weights multiply and leave N, P, Z as they are.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.objectives.formula import number
from burnish.rl.objectives.knob import Knob
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.errors import UserError


class Weights(Knob):
    """Base: subclasses give the weight of a rollout's tokens, [N]."""

    def of_rollouts(self, table: TokenTable) -> Tensor:
        """float64 [N]: weight of each token of the rollout, before keep flags and prompt weights."""
        raise NotImplementedError

    def __call__(self, table: TokenTable) -> Tensor:
        """float64 [K]; 0 on tokens of rollouts that are not kept."""
        assert table.kept is not None
        assert table.prompt_weight is not None
        values = torch.where(table.kept, self.of_rollouts(table), torch.zeros((), dtype=torch.float64, device=table.prompt.device))
        return table.spread(values * table.prompt_weight[table.prompt])


class TokenMean(Weights):
    """1 / Z (DAPO's code, CISPO, LitePPO)."""

    formula: ClassVar = "w = 1 / (all kept tokens)"
    tex: ClassVar = r"w = \frac{1}{\sum_j L_j}"
    name: Literal["token_mean"] = "token_mean"

    def of_rollouts(self, table: TokenTable) -> Tensor:
        """The same for all."""
        return _filled(table, 1 / max(table.n_kept_tokens, 1))


class PromptMean(Weights):
    """1 / (P * tokens of the prompt's kept rollouts) (DAPO's and ScaleRL's formula)."""

    formula: ClassVar = "w = 1 / (P * sum_j L_j of the prompt)"
    tex: ClassVar = r"w = \frac{1}{P \sum_{j \in g} L_j}"
    name: Literal["prompt_mean"] = "prompt_mean"

    def of_rollouts(self, table: TokenTable) -> Tensor:
        """A prompt whose kept rollouts are all empty still counts in P."""
        assert table.kept is not None
        tokens = table.prompt_sum(table.lengths * table.kept).clamp(min=1).double()
        return 1 / (max(table.n_kept_prompts, 1) * tokens[table.prompt])


class SequenceMean(Weights):
    """1 / (N L_i) (GRPO, GSPO, SAPO; GMPO, whose tokens share one term)."""

    formula: ClassVar = "w = 1 / (N L_i)"
    tex: ClassVar = r"w = \frac{1}{N L_i}"
    name: Literal["sequence_mean"] = "sequence_mean"

    def of_rollouts(self, table: TokenTable) -> Tensor:
        """L_i = loss tokens of the rollout."""
        return 1 / (max(table.n_kept, 1) * table.lengths.clamp(min=1).double())


class SequenceSum(Weights):
    """1 / N, or 1 / (N * max_length) with a constant length (Dr.GRPO). "limit": the run's longest completion (`Objective.for_run`)."""

    formula: ClassVar = "w = 1 / N"
    name: Literal["sequence_sum"] = "sequence_sum"
    max_length: int | Literal["limit"] | None = Field(None, description="a constant divisor in tokens, 'limit' for the run's, or none")

    def describe(self) -> str:
        """With the constant where there is one."""
        return self.formula if self.max_length is None else f"w = 1 / (N * {self._length})"

    def latex(self) -> str:
        """With the constant where there is one."""
        return (
            r"w = \frac{1}{N}"
            if self.max_length is None
            else rf"w = \frac{{1}}{{N \cdot {number(self.max_length)}}}".replace(number("limit"), r"L_{\max}")
        )

    @property
    def _length(self) -> str:
        return "L_max" if self.max_length == "limit" else str(self.max_length)

    def of_rollouts(self, table: TokenTable) -> Tensor:
        """UserError while the limit is unknown."""
        if self.max_length == "limit":
            raise UserError("weights.max_length is 'limit' and no run has set it; give a number of tokens (the longest completion)")
        return _filled(table, 1 / (max(table.n_kept, 1) * (self.max_length or 1)))


def _filled(table: TokenTable, value: float) -> Tensor:
    return torch.full((table.n_sequences,), value, dtype=torch.float64, device=table.prompt.device)


parts = {"token_mean": TokenMean, "prompt_mean": PromptMean, "sequence_mean": SequenceMean, "sequence_sum": SequenceSum}
