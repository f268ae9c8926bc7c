"""One step: admit what waits, run the model on one token of every live row, draw, and record."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from burnish.inference.attention import DecodePlan
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.prefill import Packing, Path, feed
from burnish.inference.sampling import draw
from burnish.inference.slots import Slots
from burnish.inference.stopping import stop_reason
from burnish.inference.support import Facts
from burnish.records import StopReason


def admit_waiting(slots: Slots, path: Path, facts: Facts, packing: Packing) -> int:
    """Move handles from the queue into slots, in order, prefilling those with unfed tokens. Returns the tokens fed."""
    slots.queue = type(slots.queue)(h for h in slots.queue if h.state == "waiting")
    if not slots.queue:
        return 0
    resident = [h for h in slots.queue if h.slot is not None]
    for handle in resident:
        slots.activate(handle)
    places = slots.places()
    coming = [h for h in slots.queue if h.slot is None][: len(places)]
    fed = feed([h for h in coming if must_feed(h)], path, facts, packing)
    for handle, slot in zip(coming, places):
        slots.admit(handle, slot)
        slots.activate(handle)
    slots.queue = type(slots.queue)(h for h in slots.queue if h.state == "waiting")
    return fed


def must_feed(handle: Handle) -> bool:
    """True where a prefill pass has to run before the next token can be computed in a slot."""
    if handle.unfed == 0:
        return handle.logits is None
    # One sampled token that is not fed yet goes through the slot; anything else was given from outside.
    sampled = handle.unfed == 1 and len(handle.ids) > handle.scored_from and not handle.injected[-1]
    return not sampled or handle.fed == 0


def decode_logits(slots: Slots, path: Path, facts: Facts, exact: bool, chunk: int) -> torch.Tensor:
    """Logits [n, V] of the next token of the first n slots, one row each; rows that are not live hold anything."""
    n = slots.row_count()
    live = slots.live
    feeding = [(slot, h) for slot, h in live if h.unfed]
    cache = slots.cache
    logits: torch.Tensor | None = None
    if feeding:
        cache.reserve(n, int(cache.lengths[:n].max()) + 1)
        positions = torch.from_numpy(slots.positions[:n].copy()).to(facts.device)
        plan = DecodePlan(cache, n, positions, exact, chunk)
        logits = path.logits(torch.from_numpy(slots.tokens[:n].copy()).to(facts.device), positions, plan, None, decode=True)
        for slot, handle in feeding:
            handle.fed += 1
            cache.lengths[slot] += 1
            slots.positions[slot] += 1
    fresh = [(slot, h) for slot, h in live if h.logits is not None]
    if fresh:
        first = fresh[0][1].logits
        assert first is not None
        logits = first.new_zeros(n, first.shape[0]) if logits is None else logits
        for slot, handle in fresh:
            logits[slot] = handle.logits
            handle.logits = None
    assert logits is not None
    return logits


def sample_step(slots: Slots, logits: torch.Tensor, eos_ids: frozenset[int], tokenizer: Any, version: int) -> list[TokenEvent]:
    """Draw one token for every live handle and record it. Handles whose turn ends are paused and stay in their slot for now."""
    n = logits.shape[0]
    live = slots.live
    index = np.zeros(n, dtype=np.int64)
    for slot, handle in live:
        index[slot] = len(handle.ids)
    ids, logps, sample_logps = (x.tolist() for x in draw(logits, slots.rows(n), index))
    events = []
    for slot, handle in live:
        token, logp = ids[slot], logps[slot]
        if math.isnan(logp):
            raise FloatingPointError(f"the model's logits are NaN at token {len(handle.ids)} of handle {handle.number}")
        handle.record(token, logp, sample_logps[slot], False, version)
        slots.tokens[slot] = token
        reason = stop_reason(handle, token, eos_ids, tokenizer)
        if reason is not None:
            end_turn(slots, handle, reason)
        events.append(TokenEvent(handle, token, logp, reason))
    return events


def end_turn(slots: Slots, handle: Handle, reason: StopReason) -> None:
    """Pause a handle; its row stays where it is until the slot is wanted."""
    handle.state, handle.stop = "paused", reason
    slots.changed()
