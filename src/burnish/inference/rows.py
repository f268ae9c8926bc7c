"""The engine's verbs for rows that are not decoding: prefill, fork, append, merge, free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from burnish.inference import own_cache, prefill, stepping
from burnish.inference.cache import Block
from burnish.inference.handle import Handle
from burnish.inference.merging import fill_merged
from burnish.inference.sampling import child_seed
from burnish.inference.setup import EngineSetup
from burnish.inference.shared_prompt import LEAST
from burnish.records import Sampling, StopReason
from burnish.runs.errors import UserError


class RowVerbs(EngineSetup):
    """See `engine.Engine`."""

    def prefill(
        self,
        ids: Sequence[int] | None = None,
        *,
        embeds: torch.Tensor | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        agent: str = "policy",
        extras: dict[str, Any] | None = None,
        replay: dict[str, np.ndarray] | None = None,
    ) -> Handle:
        """A paused row with this context. The pass itself runs when something needs it, packed with others that wait.

        embeds: [n, d] input embeddings in place of the ids' own; ids then only name the context (None: zeros).
        Raises UserError for an empty or too long prompt or an id outside the vocabulary.
        """
        if embeds is not None:
            ids = [0] * len(embeds) if ids is None else ids
            if embeds.dim() != 2 or len(embeds) != len(ids):
                raise UserError(f"prefill: embeds has shape {tuple(embeds.shape)}; {len(ids)} tokens need [{len(ids)}, width]")
            if self._own is not None:
                raise UserError(f"{self.facts.name} brings its own cache; the engine feeds it ids, not embeds")
        row = [int(token) for token in ids or ()]
        if not row:
            raise UserError("prefill: the prompt is empty; give at least one token id")
        self._check_ids(row, "prompt")
        if len(row) > self.max_length:
            raise UserError(f"the prompt has {len(row)} tokens; {self.facts.name} takes {self.max_length}: shorten it or raise max_length")
        handle = self._new(row, sampling or Sampling(), seed, agent, max_new_tokens, extras or {}, replay or {})
        handle.embeds = None if embeds is None else embeds.detach().to(self.facts.device, self.facts.dtype)
        return handle

    def _new(self, ids: list[int], sampling: Sampling, seed: int, agent: str, budget: int | None, extras: dict, replay: dict) -> Handle:
        if sampling.stop and self.tokenizer is None:
            raise UserError("sampling.stop needs the engine to have a tokenizer; give one, or use stop_ids")
        self._check_ids(sampling.bans, "sampling.bans")
        self._numbers += 1
        handle = Handle(self._numbers, ids, sampling, seed, agent, budget, extras, replay)
        handle.scored_from = handle.boundary = len(ids)
        handle.ends = self.eos_ids | frozenset(sampling.stop_ids)
        handle.double = self.facts.dtype == torch.float64
        handle.settle = self._settle
        return handle

    def fork(self, handle: Handle, n: int, seeds: Sequence[int] | None = None) -> list[Handle]:
        """n paused copies of a row. They share its keys and values until each gets a slot. seeds: one each (None: derived)."""
        self._check_open(handle)
        if seeds is not None and len(seeds) != n:
            raise UserError(f"fork: {len(seeds)} seeds for {n} forks")
        self._settle(handle)
        block = handle.block if handle.slot is None else self._slots.cache.select(handle.slot) if self._own is None else None
        prompt = block if n > 1 and block is not None and block.length >= LEAST else None
        if prompt is not None and handle.slot is None:
            handle.prompt = prompt
        out = []
        for i in range(n):
            self._numbers += 1
            copy = handle.copy(self._numbers, child_seed(handle.seed, handle.forks + i) if seeds is None else seeds[i])
            copy.block, copy.prompt = block, prompt
            copy.own_cache = handle.own_cache.fork() if handle.own_cache is not None else None
            out.append(copy)
        handle.forks += n
        return out

    def append(self, handle: Handle, ids: Sequence[int]) -> None:
        """Force tokens onto a row (a tool's output, a template's tokens). They become output of the current turn, marked injected,
        and get log-probs from the pass that prefills them. A live row leaves its slot for that pass and comes back first.
        """
        self._check_open(handle)
        ids = [int(token) for token in ids]
        self._check_ids(ids, "appended tokens")
        if len(handle.ids) + len(ids) + max(handle.offset, 0) > self.max_length:
            raise UserError(
                f"appending {len(ids)} tokens to {len(handle.ids)} exceeds the {self.max_length} tokens that {self.facts.name} takes"
            )
        if not ids:
            return
        start, logits = len(handle.ids), handle.logits if not handle.unfed else None
        for token in ids:
            handle.record(token, float("nan"), float("nan"), True, self.version)
        if logits is not None:
            with self._guard():
                prefill.score_forced(logits[None], [(handle, start)])
        handle.logits, handle.unscored = None, True
        if handle.slot is not None:
            self._slots.vacate(handle.slot)
        if handle.running:
            handle.limit += len(ids)
            if handle.state == "live":
                handle.state = "waiting"
                self._slots.queue.appendleft(handle)

    def merge(
        self, handles: Sequence[Handle], layout: Sequence[tuple[Handle, int, int]] | None = None, position: int | None = None
    ) -> Handle:
        """One row made of parts of others: layout lists (handle, start, end) token ranges; None: each handle whole, in order.

        Keys and values are joined as they are: every token keeps the position it was computed at and has attended only to its own
        path; nothing is recomputed. position: where the next token stands (None: after the highest). Append before decoding: no
        logits exist for the merged row (the first appended token's log-prob is NaN). Its settings come from the first handle.
        Turn.replay holds `positions` (context and output) and `segments` (the layout entry of each merged token).
        """
        parts = [(h, 0, len(h.ids)) for h in handles] if layout is None else list(layout)
        if self._own is not None:
            raise UserError(f"{self.facts.name} brings its own cache; the engine cannot merge its rows")
        for handle, start, end in parts:
            self._check_open(handle)
            if not 0 <= start < end <= len(handle.ids):
                raise UserError(f"merge: tokens {start} to {end} of a row of {len(handle.ids)}")
        with self._guard():
            blocks = [self._block(handle, end).select(start, end) for handle, start, end in parts]
            ids = [token for handle, start, end in parts for token in handle.ids[start:end]]
            first = parts[0][0]
            out = self._new(ids, first.sampling, first.seed, first.agent, first.max_new_tokens, first.extras, first.replay)
            fill_merged(out, parts, blocks, position)
            return out

    def _block(self, handle: Handle, end: int) -> Block:
        if handle.fed < end or handle.unscored:
            if handle.slot is not None:
                self._slots.vacate(handle.slot)
            self._feed([handle])
        block = handle.block if handle.slot is None else self._slots.cache.select(handle.slot)
        assert block is not None
        return block

    def free(self, handle: Handle) -> None:
        """Give a row's cache back. Its tokens and turns stay readable; it cannot be decoded or appended to any more."""
        if handle.slot is not None:
            self._slots.clear(handle.slot)
        if handle.state == "waiting" and handle in self._slots.queue:
            self._slots.queue.remove(handle)
        handle.state, handle.slot, handle.block, handle.prompt = "freed", None, None, None
        handle.own_cache, handle.logits, handle.embeds = None, None, None

    def cancel(self, handle: Handle) -> None:
        """Free a row that may be decoding; its turn ends with "cancelled"."""
        if handle.running:
            handle.stop = StopReason.CANCELLED
        self.free(handle)

    def settle(self, handles: Sequence[Handle]) -> None:
        """Run now, packed together, the prefill passes these rows wait for (otherwise they run when something needs them)."""
        waiting = [h for h in handles if h.state != "freed" and (h.unscored or stepping.must_feed(h))]
        for handle in waiting:
            if handle.slot is not None:
                self._slots.vacate(handle.slot)
        self._feed(waiting)

    def _settle(self, handle: Handle) -> None:
        self.settle([handle])

    def _feed(self, handles: Sequence[Handle]) -> None:
        """Prefill passes; rows whose batch keys differ share none."""
        groups: dict[Any, list[Handle]] = {}
        for handle in handles:
            groups.setdefault(own_cache.batch_key(self._core, handle), []).append(handle)
        with self._guard():
            for key, members in groups.items():
                if self._own is not None:
                    self.stats["prefilled"] += sum(self._own.feed_scored(handle) for handle in members)
                    continue
                own_cache.begin_batch(self._core, key)
                self.stats["prefilled"] += prefill.feed(members, self._path, self.facts, self._exactness.packing)
        for handle in handles:
            handle.logits_version = self.version

    def _check_open(self, handle: Handle) -> None:
        if handle.state == "freed":
            raise ValueError(f"handle {handle.number} was freed")

    def _check_ids(self, ids: Sequence[int], what: str) -> None:
        if ids and not (min(ids) >= 0 and max(ids) < self.facts.vocab):
            wrong = next(token for token in ids if not 0 <= token < self.facts.vocab)
            raise UserError(f"{what}: token id {wrong} is outside {self.facts.name}'s vocabulary of {self.facts.vocab}")
