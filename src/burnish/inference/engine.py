"""The session engine: rows of tokens that can be prefilled, forked, appended to, decoded and merged; `step()` is its core."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from burnish.inference import own_cache, stepping, weights_state
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.rows import RowVerbs
from burnish.records import StopReason, Turn
from burnish.runs.errors import UserError


class Engine(RowVerbs):
    """Decodes many rows of one causal language model at once.

    model: a Hugging Face causal LM, a PEFT-wrapped one, or any module with `make_cache()` (see `own_cache`). It is shared, not
    copied: after its weights change, call `refresh(version)` (or `load_weights`). It is put in eval mode whenever decoding starts.
    tokenizer: needed only for stop strings. eos_ids: end-of-sequence ids; () takes the model's own (generation config, then config).
    mode: "exact": a token's id and log-prob do not depend, bit for bit, on neighbours, slots or arrival order (UserError where the
    self-test says this machine cannot); "fast": rows are packed and dropped freely; "auto": exact on CPU where the self-test passes.
    slots: most rows decoded at once (None: 64). max_length: most tokens in a row, at most the model's context.

    After construction: `mode` ("exact" or "fast"), `why` (why not exact, or why the model's own modules are used), `path`
    ("walker" or "modules"), `stats` (counts of steps and tokens), `capabilities`.
    """

    # __init__: see setup.EngineSetup; prefill, fork, append, merge, free, cancel: see rows.RowVerbs.

    def start(self, handles: Sequence[Handle], max_new_tokens: int | None = None) -> None:
        """Make paused rows live: from the next step on each gets a token a step (as slots allow, in this order) until its turn ends.

        max_new_tokens: most tokens this start may sample (None: the handle's own; None there: up to max_length).
        """
        self._prepare()
        for handle in handles:
            self._check_open(handle)
            if handle.running:
                raise ValueError(f"handle {handle.number} is decoding already")
            if handle.merged is not None and handle.logits is None and handle.fed == len(handle.ids):
                raise UserError("a merged row has no next-token logits; append at least one token before decoding it")
            budget = handle.max_new_tokens if max_new_tokens is None else max_new_tokens
            room = self.max_length - max(handle.offset, 0)
            handle.limit = room if budget is None else min(room, len(handle.ids) + budget)
            handle.run_start = len(handle.ids)
            handle.stop = None
            if handle.limit <= len(handle.ids):
                handle.stop = StopReason.LENGTH
                continue
            handle.state = "waiting"
            self._slots.queue.append(handle)

    def pause(self, handle: Handle) -> None:
        """Stop decoding a row for now; its turn may go on with `start` or `decode`."""
        if handle.state == "waiting":
            self._slots.queue.remove(handle)
        if handle.running:
            handle.state = "paused"
            self._slots.changed()

    @property
    def busy(self) -> bool:
        """True while any handle waits or is live."""
        return bool(self._slots.queue) or bool(self._slots.live)

    @property
    def paused_slots(self) -> int:
        """Slots held by paused rows (they give way as soon as a slot is wanted)."""
        return sum(handle is not None and handle.state == "paused" for handle in self._slots.handles)

    @property
    def waiting(self) -> int:
        """Rows that wait for a slot."""
        return len(self._slots.queue)

    @property
    def slots(self) -> int:
        """Most rows decoded at once."""
        return self._slots.limit

    def step(self) -> list[TokenEvent]:
        """One token for every live row; rows that wait are prefilled and admitted first. [] when nothing is live."""
        slots = self._slots
        self._admit()
        if not slots.live:
            return []
        with self._guard():
            logits = self._own_logits() if self._own is not None else self._slot_logits()
            events = stepping.sample_step(slots, logits, self.eos_ids, self.tokenizer, self.version)
        self.stats["steps"] += 1
        self.stats["row_steps"] += logits.shape[0]
        self.stats["sampled"] += len(events)
        return events

    def decode(
        self, handles: Sequence[Handle], until: Callable[[Handle], bool] | None = None, max_new_tokens: int | None = None
    ) -> list[Turn]:
        """Decode these rows until each has stopped; returns their turns, in order. Other live rows go on meanwhile.

        until: asked after each of a row's tokens; True ends its turn with "stop". A row may be decoded again afterwards: the turn
        then goes on, unless `handle.new_turn()` was called, which makes everything so far the next turn's context.
        """
        self.start(handles, max_new_tokens)
        mine = set(map(id, handles))
        while any(handle.running for handle in handles):
            for event in self.step():
                if until is not None and event.stop is None and id(event.handle) in mine and until(event.handle):
                    stepping.end_turn(self._slots, event.handle, StopReason.STOP)
        return [handle.turn() for handle in handles]

    # -- weights -------------------------------------------------------------------------------------------------------

    def load_weights(self, state: Mapping[str, torch.Tensor], version: int) -> None:
        """Copy a state dict into the model and go on with it as `version`. Rows keep the keys and values they have: tokens drawn
        from now on carry the new version. Raises UserError where a name is unknown, missing or of another shape.
        """
        weights_state.load(self._core, state)
        self.refresh(version)

    def refresh(self, version: int) -> None:
        """The model's weights have changed in place (it is shared with the learner): use them, as `version`."""
        self.version = version
        if self._runner is not None:
            with self._guard():
                self._runner.refresh()
        self._parameters = list(self.model.parameters())
        self._print = weights_state.fingerprint(self._parameters)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Before decoding starts: eval mode, fused weights up to date, the self-test valid for the present thread count."""
        if self.model.training:
            self.model.eval()
        if weights_state.fingerprint(self._parameters) != self._print:
            self.refresh(self.version)
        if self._own is None and torch.get_num_threads() != self._threads and not self.busy:
            for slot, handle in enumerate(self._slots.handles):
                if handle is not None:
                    self._slots.vacate(slot)
            self._set_up()

    def _admit(self) -> None:
        """Move rows from the queue into slots, in order, running the prefill passes they wait for."""
        slots = self._slots
        if not slots.queue:
            return
        for handle in [h for h in slots.queue if h.slot is not None]:
            slots.activate(handle)
        waiting = [h for h in slots.queue if h.slot is None]
        places = slots.places()[: len(waiting)] if waiting else []
        coming = waiting[: len(places)]
        self._feed([h for h in coming if stepping.must_feed(h)])
        with self._guard():
            for handle, slot in zip(coming, places):
                slots.admit(handle, slot)
                slots.activate(handle)
        slots.queue.clear()
        slots.queue.extend(waiting[len(places) :])

    def _slot_logits(self) -> torch.Tensor:
        """Logits [n, V] of the first n slots; one pass, or one for each batch key where the model has keys."""
        n = self._slots.row_count()
        groups: dict[Any, list[tuple[int, Handle]]] = {}
        for slot, handle in self._slots.live:
            if handle.unfed:
                key = own_cache.batch_key(self._core, handle) if self._keyed else None
                groups.setdefault(key, []).append((slot, handle))
        logits: torch.Tensor | None = None
        for key, members in groups.items():
            own_cache.begin_batch(self._core, key)
            got = stepping.decode_pass(self._slots, members, n, self._path, self.mode == "exact", self._exactness.chunk)
            if logits is None:
                logits = got
            else:
                rows = [slot for slot, _ in members]
                logits[rows] = got[rows]
        return stepping.with_fresh(self._slots, logits, n)

    def _own_logits(self) -> torch.Tensor:
        assert self._own is not None
        fed = [(slot, handle) for slot, handle in self._slots.live if handle.unfed]
        rows = self._own.step([handle for _, handle in fed])
        logits = None
        if rows:
            logits = rows[0].new_zeros(self._slots.ladder[-1], rows[0].shape[0])
            for (slot, _), row in zip(fed, rows):
                logits[slot] = row
        return stepping.with_fresh(self._slots, logits, self._slots.ladder[-1])
