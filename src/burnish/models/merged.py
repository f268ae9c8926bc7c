"""Rows that the engine merged of several others: which token saw which, from the arrays that `Turn.replay` keeps of it.

positions: int64, of every token of context and output. segments: int64 [m], the part each of the first m tokens came from; tokens after
those see everything before them. paths: int64 [*, 3], (part, start, end): tokens of that part saw the row's tokens start..end besides
their own part up to themselves; start -1 says that `end` tokens they saw are not in the row, so nothing can be recomputed.
A row with `positions` alone is causal at those positions.

Such rows run the plain way, one at a time, through an attention of their own whose mask is made here, the model's rule for windows
included.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from burnish.models.attention import CannotPack, dense_attention
from burnish.models.rows import Row
from burnish.records import Rollout
from burnish.runs.errors import UserError

MERGED = "burnish_merged"
_row: contextvars.ContextVar[tuple[Tensor, Tensor] | None] = contextvars.ContextVar("burnish_merged_row", default=None)


def is_merged(row: Row) -> bool:
    """True where the row's tokens do not simply stand at 0, 1, 2 ... and see all before them."""
    return "positions" in row.replay


def seen_by(replay: Mapping[str, np.ndarray], length: int) -> np.ndarray:
    """bool [length, length]: [query, key] True where the query saw the key, windows aside."""
    steps = np.arange(length)
    seen = steps[None, :] <= steps[:, None]
    segments = np.asarray(replay.get("segments", ()), dtype=np.int64)[:length]
    n = len(segments)
    seen[:n, :n] &= segments[:, None] == segments[None, :]
    for part, start, end in np.asarray(replay.get("paths", ()), dtype=np.int64).reshape(-1, 3):
        seen[:n][segments == part, max(start, 0) : end if start >= 0 else 0] = True
    return seen


def check_merged(rollouts: Sequence[Rollout]) -> None:
    """Raises UserError where a trained turn's merged row lacks tokens that its paths saw."""
    for rollout in rollouts:
        for turn in rollout.turns:
            paths = np.asarray(turn.replay.get("paths", ())).reshape(-1, 3)
            lost = int(paths[paths[:, 1] < 0, 2].sum())
            if lost and turn.loss_mask.any():
                raise UserError(
                    f"item {rollout.item_id!r}: a merged row left out {lost} tokens that its paths saw, so its log-probs cannot be "
                    "recomputed; name their prompt in the layout of merge, or set turn.train = False"
                )


@contextlib.contextmanager
def merged_row(row: Row, length: int, device: torch.device) -> Iterator[Tensor]:
    """Within, `MERGED` attention reads this row's first `length` tokens; gives their positions, int64 [length]."""
    positions = torch.from_numpy(np.asarray(row.replay["positions"], dtype=np.int64)[:length]).to(device)
    token = _row.set((torch.from_numpy(seen_by(row.replay, length)).to(device), positions))
    try:
        yield positions
    except CannotPack as error:
        raise UserError(f"the model cannot score merged rows: {error}; give it a burnish_score that reads Turn.replay") from error
    finally:
        _row.reset(token)


def merged_mask(*, mask_function: Callable[..., Tensor], use_vmap: bool = False, **_: Any) -> Tensor:
    """transformers' mask interface: bool [1, 1, T, T]. The model's own rule is asked at the tokens' true positions."""
    row = _row.get()
    if row is None:
        raise RuntimeError(f"attention {MERGED!r} is for burnish's merged rows; set another attn_implementation to run the model itself")
    if use_vmap:
        raise CannotPack("its masks are made by a function of its own")
    seen, positions = row
    zero = positions.new_zeros(())
    keys = positions[None, :]
    # A path may reach further than the token that looks at it: that key is not in the past, but it is near.
    queries = torch.maximum(positions[:, None], keys)
    return (seen & mask_function(zero, zero, queries, keys))[None, None]


AttentionInterface.register(MERGED, dense_attention)
AttentionMaskInterface.register(MERGED, merged_mask)
