"""Token columns: values by token that thinkers, rewards or shapers wrote down, for steps of credit that read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from burnish.records import Group, Rollout, Score
from burnish.runs.errors import UserError

PREFIX = "column."


def column_of(name: str) -> str:
    """The key under which a column lies in `CreditBatch.measured`."""
    return PREFIX + name


def read_columns(groups: Sequence[Group], names: Sequence[str], kept: Sequence[bool]) -> dict[str, Tensor]:
    """float64 [K] by key, over the loss tokens of all rollouts; zeros for rollouts that are not kept.

    A column is `score.extras[name]`, one value for each loss token (from a reward or shaper), or `turn.replay[name]`, one for each
    output token of the turn (from a thinker). Raises UserError where a kept rollout has neither, or one of another length.
    """
    pairs = [(group.item.id, *pair) for group in groups for pair in zip(group.rollouts, group.scores, strict=True)]
    return {
        column_of(name): torch.from_numpy(
            np.concatenate(
                [_column(name, *pair) if keep else np.zeros(pair[1].n_loss_tokens) for pair, keep in zip(pairs, kept, strict=True)]
                or [np.zeros(0)]
            )
        )
        for name in names
    }


def _column(name: str, item: str, rollout: Rollout, score: Score) -> np.ndarray:
    if name in score.extras:
        values = np.asarray(score.extras[name], dtype=np.float64)
    elif all(name in turn.replay for turn in rollout.turns if turn.loss_mask.any()):
        found = [
            np.asarray(turn.replay[name], dtype=np.float64)[turn.loss_mask]
            for turn in rollout.turns
            if turn.loss_mask.any() and len(turn.replay[name]) == len(turn.output_ids)
        ]
        values = np.concatenate(found) if found else np.zeros(0)
    else:
        raise UserError(
            f"item {item!r}, rollout {rollout.index}: the credit reads the token column {name!r}, which is missing; let a shaper put one "
            f"value for each loss token into score.extras[{name!r}], or a thinker one for each output token into turn.replay[{name!r}]"
        )
    if values.shape != (rollout.n_loss_tokens,):
        raise UserError(
            f"item {item!r}, rollout {rollout.index}: token column {name!r} holds {values.shape} values "
            f"for {rollout.n_loss_tokens} loss tokens"
        )
    return values
