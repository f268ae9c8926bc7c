"""TokenTable: which rollout and which prompt every loss token of an optimiser step belongs to. No padding anywhere.

Flat order (the same in every room): rollouts in the given order, their turns in order, the tokens where `turn.loss_mask`.
K = number of loss tokens, N = number of rollouts ("sequences"), P = number of groups ("prompts"). "Masked means selected" holds by
construction: prompt, injected and tool tokens are simply not in the table, so nothing they contain can reach the loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.records import Group


@dataclasses.dataclass(frozen=True)
class TokenTable:
    """The segments of flat per-token tensors.

    sequence: int64 [K], non-decreasing: the rollout of each loss token, 0..N-1.
    prompt: int64 [N]: the group of each rollout, 0..n_prompts-1 (two groups of one item are two prompts).
    n_prompts: P, the length of `prompt_weight`; prompts without rollouts here are allowed (a table may be a slice of another).
    kept: bool [N]: False for rollouts that a filter dropped or whose score is invalid; they leave every count (N, P, Z) and the loss.
    prompt_weight: float64 [P]: multiplies the weights of a prompt's tokens and leaves the counts as they are.

    A kept rollout without loss tokens counts in N (and keeps its prompt in P) and contributes 0.
    Raises ValueError where shapes or the order do not fit.
    """

    sequence: Tensor
    prompt: Tensor
    n_prompts: int
    kept: Tensor | None = None
    prompt_weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kept is None:
            object.__setattr__(self, "kept", torch.ones(len(self.prompt), dtype=torch.bool, device=self.prompt.device))
        if self.prompt_weight is None:
            object.__setattr__(self, "prompt_weight", torch.ones(self.n_prompts, dtype=torch.float64, device=self.prompt.device))
        assert self.kept is not None
        assert self.prompt_weight is not None
        if self.kept.shape != self.prompt.shape or self.prompt_weight.shape != (self.n_prompts,):
            raise ValueError(
                f"kept has shape {tuple(self.kept.shape)}, prompt {tuple(self.prompt.shape)},"
                f" prompt_weight {tuple(self.prompt_weight.shape)} for {self.n_prompts} prompts"
            )
        ends = (int(self.sequence[0]), int(self.sequence[-1])) if len(self.sequence) else (0, -1)
        if ends[0] < 0 or ends[1] >= len(self.prompt) or bool((self.sequence.diff() < 0).any()):
            raise ValueError("sequence must be non-decreasing rollout numbers within 0..N-1")

    @classmethod
    def from_lengths(
        cls,
        lengths: Sequence[int] | Tensor,
        prompt: Sequence[int] | Tensor,
        n_prompts: int | None = None,
        kept: Sequence[bool] | Tensor | None = None,
        prompt_weight: Sequence[float] | Tensor | None = None,
    ) -> TokenTable:
        """A table from the number of loss tokens and the group number of each rollout."""
        prompts = torch.as_tensor(prompt, dtype=torch.int64)
        counts = torch.as_tensor(lengths, dtype=torch.int64)
        return cls(
            sequence=torch.repeat_interleave(torch.arange(len(prompts)), counts),
            prompt=prompts,
            n_prompts=(int(prompts.max()) + 1 if len(prompts) else 0) if n_prompts is None else n_prompts,
            kept=None if kept is None else torch.as_tensor(kept, dtype=torch.bool),
            prompt_weight=None if prompt_weight is None else torch.as_tensor(prompt_weight, dtype=torch.float64),
        )

    @classmethod
    def from_groups(cls, groups: Sequence[Group], keep: Sequence[Sequence[bool]] | None = None) -> TokenTable:
        """The table of all rollouts of all groups, in order. keep: per group and rollout (default all); invalid scores are never kept."""
        lengths, prompt, kept = [], [], []
        for number, group in enumerate(groups):
            for place, (rollout, score) in enumerate(zip(group.rollouts, group.scores, strict=True)):
                lengths.append(rollout.n_loss_tokens)
                prompt.append(number)
                kept.append((keep is None or bool(keep[number][place])) and not score.invalid)
        return cls.from_lengths(lengths, prompt, n_prompts=len(groups), kept=kept)

    # --- counts -----------------------------------------------------------------------------------------------------------------------
    @property
    def n_tokens(self) -> int:
        """K."""
        return len(self.sequence)

    @property
    def n_sequences(self) -> int:
        """Number of rollouts in the table, kept or not."""
        return len(self.prompt)

    @property
    def lengths(self) -> Tensor:
        """int64 [N]: loss tokens of each rollout."""
        return torch.bincount(self.sequence, minlength=self.n_sequences)

    @property
    def kept_tokens(self) -> Tensor:
        """bool [K]: tokens of kept rollouts."""
        assert self.kept is not None
        return self.kept[self.sequence]

    @property
    def n_kept(self) -> int:
        """Number of kept rollouts (the N of the weights)."""
        assert self.kept is not None
        return int(self.kept.sum())

    @property
    def n_kept_tokens(self) -> int:
        """Number of loss tokens of kept rollouts (the Z of the weights)."""
        return int(self.kept_tokens.sum())

    @property
    def n_kept_prompts(self) -> int:
        """Number of prompts with at least one kept rollout (the P of the weights)."""
        assert self.kept is not None
        return int(self.prompt[self.kept].unique().numel())

    # --- segments ---------------------------------------------------------------------------------------------------------------------
    def sum(self, x: Tensor) -> Tensor:
        """[K] -> [N]: sums over each rollout's tokens, in order (deterministic on CPU), differentiable."""
        return torch.zeros(self.n_sequences, dtype=x.dtype, device=x.device).index_add(0, self.sequence, x)

    def mean(self, x: Tensor) -> Tensor:
        """[K] -> [N]: means over each rollout's tokens; 0 for a rollout without tokens."""
        return self.sum(x) / self.lengths.clamp(min=1).to(x.dtype)

    def spread(self, x: Tensor) -> Tensor:
        """[N] -> [K]: each rollout's value on all its tokens."""
        return x[self.sequence]

    def prompt_sum(self, x: Tensor) -> Tensor:
        """[N] -> [P]: sums over each prompt's rollouts, kept or not."""
        return torch.zeros(self.n_prompts, dtype=x.dtype, device=x.device).index_add(0, self.prompt, x)

    def from_end(self) -> Tensor:
        """int64 [K]: tokens of the same rollout that follow (0 on its last loss token)."""
        ends = self.lengths.cumsum(0)
        return ends[self.sequence] - 1 - torch.arange(self.n_tokens, device=self.sequence.device)

    # --- parts of a table -------------------------------------------------------------------------------------------------------------
    def pick(self, rollouts: Sequence[int] | Tensor) -> tuple[TokenTable, Tensor]:
        """The table of these whole rollouts, in the given order, and int64 [K']: the places of their tokens in this table's flat order.

        Prompt numbers, n_prompts and prompt weights stay as they are.
        """
        chosen = torch.as_tensor(rollouts, dtype=torch.int64, device=self.prompt.device)
        lengths = self.lengths
        starts = lengths.cumsum(0) - lengths
        counts = lengths[chosen]
        ends = counts.cumsum(0)
        within = torch.arange(int(counts.sum()), device=self.prompt.device) - torch.repeat_interleave(ends - counts, counts)
        index = torch.repeat_interleave(starts[chosen], counts) + within
        sequence = torch.repeat_interleave(torch.arange(len(chosen), device=self.prompt.device), counts)
        assert self.kept is not None
        return TokenTable(sequence, self.prompt[chosen], self.n_prompts, self.kept[chosen], self.prompt_weight), index

    def with_prompt_weight(self, prompt_weight: Tensor) -> TokenTable:
        """The same table with other prompt weights (float64 [P])."""
        return dataclasses.replace(self, prompt_weight=prompt_weight.to(torch.float64))

    def to(self, device: torch.device | str) -> TokenTable:
        """The same table on another device."""
        assert self.kept is not None
        assert self.prompt_weight is not None
        weight = self.prompt_weight.float() if torch.device(device).type == "mps" else self.prompt_weight  # which knows no float64
        return TokenTable(self.sequence.to(device), self.prompt.to(device), self.n_prompts, self.kept.to(device), weight.to(device))
