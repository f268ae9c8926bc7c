"""The parts of one step: run the model on one token of every live row, draw, and record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from burnish.inference.attention import DecodePlan
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.prefill import Path
from burnish.inference.sampling import draw
from burnish.inference.shared_prompt import SharedCache
from burnish.inference.slots import Slots
from burnish.inference.stopping import stop_reason
from burnish.records import StopReason


def must_feed(handle: Handle) -> bool:
    """True where a prefill pass has to run before the next token can be computed in a slot."""
    if handle.unfed == 0:
        return handle.logits is None
    # One sampled token that is not fed yet goes through the slot; anything else was given from outside.
    sampled = handle.unfed == 1 and len(handle.ids) > handle.scored_from and not handle.injected[-1]
    return not sampled or handle.fed == 0


def decode_pass(slots: Slots, members: Sequence[tuple[int, Handle]], n: int, path: Path, exact: bool, chunk: int) -> torch.Tensor:
    """Run the model on one token of each of the first n slots; advance `members`, the (slot, handle) pairs whose token is real.

    Returns logits [n, V]; rows of others hold anything. Those others write behind their row's end, where their own next token
    will overwrite it.
    """
    cache = slots.cache
    cache.reserve(n, int(cache.lengths[:n].max()) + 1)
    positions = torch.from_numpy(slots.positions[:n].copy()).to(cache.device)
    plan = cache.plan(n, positions) if isinstance(cache, SharedCache) else DecodePlan(cache, n, positions, exact, chunk)
    logits = path.logits(torch.from_numpy(slots.tokens[:n].copy()).to(cache.device), positions, plan, None, decode=True)
    for slot, handle in members:
        handle.fed += 1
        cache.lengths[slot] += 1
        slots.positions[slot] += 1
    return logits


def with_fresh(slots: Slots, logits: torch.Tensor | None, n: int) -> torch.Tensor:
    """The same logits, with those of rows that come straight from a prefill pass put in their place."""
    for slot, handle in slots.live:
        if handle.logits is not None:
            if logits is None:
                logits = handle.logits.new_zeros(n, handle.logits.shape[0])
            logits[slot] = handle.logits
            handle.logits = None
    assert logits is not None
    return logits


def sample_step(slots: Slots, logits: torch.Tensor, eos_ids: frozenset[int], tokenizer: Any, version: int) -> list[TokenEvent]:
    """Draw one token for every live handle and record it. Handles whose turn ends are paused and stay in their slot for now.

    version: of the weights that computed the logits; those of a row that comes from a prefill pass may be older.
    """
    n = logits.shape[0]
    live = slots.live
    index = np.zeros(n, dtype=np.int64)
    for slot, handle in live:
        index[slot] = len(handle.ids)
    ids, logps, sample_logps = (x.tolist() for x in draw(logits, slots.rows(n), index))
    events, tokens = [], slots.tokens
    for slot, handle in live:
        token, logp = ids[slot], logps[slot]
        if logp != logp:
            raise FloatingPointError(f"the model's logits are NaN at token {len(handle.ids)} of handle {handle.number}")
        handle.record(token, logp, sample_logps[slot], False, version if handle.logits_version is None else handle.logits_version)
        handle.logits_version = None
        tokens[slot] = token
        reason = None
        if token in handle.ends or len(handle.ids) >= handle.limit or handle.sampling.stop:
            reason = stop_reason(handle, token, eos_ids, tokenizer)
            if reason is not None:
                end_turn(slots, handle, reason)
        events.append(TokenEvent(handle, token, logp, reason))
    return events


def end_turn(slots: Slots, handle: Handle, reason: StopReason) -> None:
    """Pause a handle; its row stays where it is until the slot is wanted."""
    handle.state, handle.stop = "paused", reason
    slots.changed()
