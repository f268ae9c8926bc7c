"""Models that bring their own cache (a window, a recurrent memory): the protocol, and the stepping for them.

A model opts in with a method `make_cache()`, which returns the empty cache of ONE row. The engine then calls
`model(input_ids=[R, T], position_ids=[R, T], past_key_values=cache, use_cache=True)`, which must return an object with `.logits`
[R, T, V] (or the logits themselves) and must update the cache in place. What the cache holds is the model's business.

With a method `batch_key(handle)` a model says which rows may share a forward pass: rows with different keys never do. It may
read `handle.extras`, which the caller gave to `prefill`. If the model also has `begin_batch(key)`, that is called before every
pass. `batch_key` and `begin_batch` work with the built-in cache as well (see `engine.py`); there, rows of a key may skip layers
altogether, always the same ones for one row.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import torch

from burnish.inference.handle import Handle
from burnish.inference.prefill import score_forced
from burnish.inference.support import Facts


class OwnCache(Protocol):
    """What a model's own cache must offer."""

    def rows(self) -> int:
        """How many rows it holds."""

    def select(self, rows: Sequence[int]) -> OwnCache:
        """A new cache with copies of these rows, in this order (a row may be named twice)."""

    def join(self, others: Sequence[OwnCache]) -> OwnCache:
        """A new cache with this one's rows and then the others'; called only for caches of rows with equal batch keys."""

    def fork(self) -> OwnCache:
        """An independent copy of the whole cache."""

    def reset(self) -> None:
        """Forget everything."""


class OwnCacheRunner:
    """Feeds handles of a model with its own cache. exact: every row runs alone, so its bits cannot depend on others."""

    def __init__(self, model: Any, facts: Facts, exact: bool):
        self.model, self.facts, self.exact = model, facts, exact

    def key(self, handle: Handle) -> Hashable:
        """The batch key of a handle."""
        return batch_key(self.model, handle)

    def feed_scored(self, handle: Handle) -> int:
        """Feed a handle's unfed tokens alone, score the forced ones, keep the next token's logits; returns how many were fed."""
        if handle.own_cache is None:
            handle.own_cache = self.model.make_cache()
        start, end = handle.fed, len(handle.ids)
        logits = self._forward(handle.own_cache, [handle.ids[start:]], [start + handle.offset], self.key(handle))[0]
        forced = [i for i in range(max(start + 1, handle.scored_from), end) if handle.injected[i - handle.scored_from]]
        if forced:
            score_forced(logits[[i - 1 - start for i in forced]], [(handle, i) for i in forced])
        handle.fed, handle.logits, handle.unscored = end, logits[-1].clone(), False
        return end - start

    def step(self, handles: Sequence[Handle]) -> list[torch.Tensor]:
        """Logits [V] after the one unfed token of each handle, rows with one key sharing a pass."""
        groups: dict[Any, list[int]] = {}
        for i, handle in enumerate(handles):
            groups.setdefault((self.key(handle), i if self.exact else None), []).append(i)
        out: list[torch.Tensor | None] = [None] * len(handles)
        for (key, _), members in groups.items():
            rows = [handles[i] for i in members]
            cache = rows[0].own_cache if len(rows) == 1 else rows[0].own_cache.join([h.own_cache for h in rows[1:]])
            logits = self._forward(cache, [h.ids[h.fed :] for h in rows], [h.fed + h.offset for h in rows], key)
            for place, (i, handle) in enumerate(zip(members, rows)):
                if len(rows) > 1:
                    handle.own_cache = cache.select([place])
                handle.fed += 1
                out[i] = logits[place, -1]
        return [row for row in out if row is not None]

    def _forward(self, cache: OwnCache, ids: list[list[int]], starts: list[int], key: Hashable) -> torch.Tensor:
        device = self.facts.device
        tokens = torch.tensor(ids, device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(tokens.shape[1], device=device)
        begin_batch(self.model, key)
        out = self.model(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)
        return getattr(out, "logits", out)


def batch_key(model: Any, handle: Handle) -> Hashable:
    """The model's batch key of a handle; None where it has no such method."""
    return model.batch_key(handle) if hasattr(model, "batch_key") else None


def begin_batch(model: Any, key: Hashable) -> None:
    """Tell the model which key the next pass has, where it wants to know."""
    if hasattr(model, "begin_batch"):
        model.begin_batch(key)
