"""Rows: what one forward pass reads, made of turns; and the flat order in which everything per token is kept.

FLAT ORDER, everywhere in burnish: rollouts as given, their turns in order, the tokens where `turn.loss_mask` is True. K is their number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from burnish.records import Rollout, Turn
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Row:
    """ids: token ids, int64 [T]. targets: ascending indices j >= 1 into ids, int64 [n]; ids[j] is predicted from the state at j - 1.

    replay: the turn's own arrays, untouched, for models that need them (a row with replay holds one turn).
    """

    ids: np.ndarray
    targets: np.ndarray
    replay: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def needed(self) -> np.ndarray:
        """ids up to the last state that predicts a target: what the forward pass must read."""
        return self.ids[: self.targets[-1]] if len(self.targets) else self.ids[:0]


def rows_of(rollouts: Sequence[Rollout]) -> tuple[list[Row], np.ndarray]:
    """(rows, order): rows that hold every loss token once, and order int64 [K] with `flat = concatenated_row_values[order]`.

    A turn whose context extends the row before it exactly (same rollout, no replay arrays) shares that row; a context that was
    reset, cut or rewritten starts a new row. Rows without loss tokens are left out.
    Since turns only ever follow one another, the concatenation is in flat order already, and `order` is there for callers that
    reorder rows: keep it beside them.

    Raises UserError where a loss token has nothing before it.
    """
    rows: list[Row] = []
    for number, rollout in enumerate(rollouts):
        open_row: list[int] | None = None
        targets: list[np.ndarray] = []
        for turn in rollout.turns:
            context = list(turn.context_ids)
            if open_row is None or turn.replay or len(context) < len(open_row) or context[: len(open_row)] != open_row:
                _close(rows, open_row, targets)
                targets = []
            places = len(context) + np.flatnonzero(turn.loss_mask)
            if len(places) and places[0] == 0:
                raise UserError(f"rollout {number} of item {rollout.item_id!r}: a trained turn has an empty context; give it a first token")
            targets.append(places)
            open_row = context + list(turn.output_ids)
            if turn.replay:  # its arrays belong to this turn alone
                _close(rows, open_row, targets, turn)
                open_row, targets = None, []
        _close(rows, open_row, targets)
    return rows, np.arange(sum(len(row.targets) for row in rows), dtype=np.int64)


def _close(rows: list[Row], ids: list[int] | None, targets: list[np.ndarray], turn: Turn | None = None) -> None:
    found = np.concatenate(targets).astype(np.int64) if targets else np.zeros(0, dtype=np.int64)
    if ids is not None and len(found):
        rows.append(Row(np.asarray(ids, dtype=np.int64), found, {} if turn is None else turn.replay))


def flat(rollouts: Sequence[Rollout], name: str) -> Tensor:
    """A per-token field of the turns ("output_ids", "logprobs", "version" ...) in flat order: Tensor [K].

    `sample_logprobs` of a turn that has none (nothing was truncated) are its `logprobs`. Slots outside the loss mask are never
    read, so what stands there (NaN for injected tokens) cannot matter.
    """
    parts = []
    for turn in _turns(rollouts):
        value = getattr(turn, name)
        if value is None and name == "sample_logprobs":
            value = turn.logprobs
        parts.append(np.asarray(value, dtype=np.int64 if name == "output_ids" else None)[turn.loss_mask])
    if not parts:
        return torch.zeros(0, dtype=torch.int64 if name in ("output_ids", "version") else torch.float32)
    return torch.from_numpy(np.concatenate(parts))


def temperatures(rollouts: Sequence[Rollout]) -> Tensor:
    """Each token's own sampling temperature, float64 [K]; greedy turns (0) count as 1."""
    parts = [np.full(int(turn.loss_mask.sum()), turn.sampling.temperature or 1.0) for turn in _turns(rollouts)]
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.ones(0, dtype=torch.float64)


def sequence_index(rollouts: Sequence[Rollout]) -> Tensor:
    """int64 [K]: which rollout (its place in the list) each token belongs to."""
    return torch.repeat_interleave(torch.arange(len(rollouts)), torch.tensor(lengths(rollouts), dtype=torch.int64))


def turn_index(rollouts: Sequence[Rollout]) -> Tensor:
    """int64 [K]: which turn (counted through all rollouts) each token belongs to."""
    counts = [int(turn.loss_mask.sum()) for turn in _turns(rollouts)]
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))


def lengths(rollouts: Sequence[Rollout]) -> list[int]:
    """Loss tokens of each rollout; their sum is K."""
    return [rollout.n_loss_tokens for rollout in rollouts]


def _turns(rollouts: Sequence[Rollout]) -> Iterator[Turn]:
    return (turn for rollout in rollouts for turn in rollout.turns)
