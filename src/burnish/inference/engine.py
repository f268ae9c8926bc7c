"""The session engine: prefill, fork, append, decode, merge, free, and the step that drives them all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from burnish.inference import own_cache, prefill, stepping, weights_state
from burnish.inference.cache import Block, Cache
from burnish.inference.exactness import CHUNKS, Exactness, self_test
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.merging import join_rows
from burnish.inference.sampling import child_seed
from burnish.inference.slots import Slots
from burnish.inference.support import facts as facts_of
from burnish.inference.support import unwrapped
from burnish.inference.verify import choose_path
from burnish.records import Sampling, StopReason, Turn
from burnish.runs.errors import UserError

DEFAULT_SLOTS = 64
FIXED_SLOTS = 16  # where every step must have the same number of rows and the caller named none


class Engine:
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

    capabilities = frozenset({"token_ids", "logprobs", "inject", "load_weights", "fork"})

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        eos_ids: Iterable[int] = (),
        mode: str = "auto",
        slots: int | None = None,
        max_length: int | None = None,
        version: int = 0,
    ):
        if mode not in ("auto", "exact", "fast"):
            raise UserError(f"engine mode {mode!r} is unknown; known: auto, exact, fast")
        if slots is not None and slots < 1:
            raise UserError(f"engine slots={slots}; it must be at least 1")
        self.model, self.tokenizer, self.version = model, tokenizer, version
        self._core = unwrapped(model)
        self.facts = facts_of(model, max_length)
        self.max_length = self.facts.max_length
        self.eos_ids = frozenset(eos_ids) or weights_state.eos_ids_of(self._core)
        self.stats = {"steps": 0, "row_steps": 0, "sampled": 0, "prefilled": 0}
        self._numbers = 0
        self._threads = torch.get_num_threads()
        model.eval()
        self._slots_wanted = slots
        self._own: own_cache.OwnCacheRunner | None = None
        self._runner: prefill.Path | None = None
        self.why = ""
        if self.facts.own_cache:
            self._set_up_own(mode)
        else:
            self._runner, self.why = choose_path(model, self.facts)
            self._set_up(mode)
        self._print = weights_state.fingerprint(model)

    # -- set-up --------------------------------------------------------------------------------------------------------

    def _set_up_own(self, mode: str) -> None:
        self.mode = "exact" if mode == "exact" else "fast"
        self.why = "" if mode == "exact" else f"{self.facts.name} brings its own cache"
        self._own = own_cache.OwnCacheRunner(self._core, self.facts, exact=mode == "exact")
        limit = self._slots_wanted or DEFAULT_SLOTS
        self._exactness = Exactness((limit,), CHUNKS[0], prefill.FAST)
        self._make_slots(limit)

    def _set_up(self, mode: str) -> None:
        limit = self._slots_wanted or DEFAULT_SLOTS
        exactness = None
        if mode == "exact" or (mode == "auto" and self.facts.device.type == "cpu"):
            with self._guard():
                exactness = self_test(self._path, self.facts, limit)
                if exactness.ladder and len(exactness.ladder) == 1 and self._slots_wanted is None:
                    limit = FIXED_SLOTS
                    exactness = self_test(self._path, self.facts, limit)
            if mode == "exact" and not exactness.ladder:
                raise UserError(f"exact mode is not possible here: {exactness.why}; use mode: fast")
            if not exactness.ladder:
                self.why = exactness.why
        elif mode == "auto":
            self.why = f"the model is on {self.facts.device.type}, where the default is fast"
        self.mode = "exact" if exactness is not None and exactness.ladder else "fast"
        if exactness is None or not exactness.ladder:
            exactness = Exactness(tuple(range(1, limit + 1)), 1 << 30, prefill.FAST)
        self._exactness = exactness
        self._make_slots(limit)

    def _make_slots(self, limit: int) -> None:
        dtype = torch.float64 if self.facts.dtype == torch.float64 else torch.float32
        self._slots = Slots(Cache(self.facts.device), limit, self._exactness.ladder, dtype, self.facts.device)

    @property
    def path(self) -> str:
        """How the model is run: "walker", "modules", or "own cache"."""
        return "own cache" if self._runner is None else self._runner.name

    @property
    def _path(self) -> prefill.Path:
        assert self._runner is not None
        return self._runner

    def _guard(self) -> contextlib.AbstractContextManager[Any]:
        # Modules may keep what they compute (rotary tables); inference tensors kept there would break the learner's backward.
        return torch.inference_mode() if self.path == "walker" else torch.no_grad()

    # -- rows ----------------------------------------------------------------------------------------------------------

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
        out = []
        for i in range(n):
            self._numbers += 1
            copy = handle.copy(self._numbers, child_seed(handle.seed, handle.forks + i) if seeds is None else seeds[i])
            copy.block = block
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
            raise UserError(f"appending {len(ids)} tokens to {len(handle.ids)} exceeds the {self.max_length} tokens that {self.facts.name} takes")
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

    def merge(self, handles: Sequence[Handle], layout: Sequence[tuple[Handle, int, int]] | None = None, position: int | None = None) -> Handle:
        """One row made of parts of others: layout lists (handle, start, end) token ranges; None: each handle whole, in order.

        Keys and values are joined as they are: every token keeps the position it was computed at and has attended only to its own
        path; nothing is recomputed. position: where the next token stands (None: after the highest). Append before decoding: no
        logits exist for the merged row. Its settings come from the first handle. Turn.replay holds `positions` and `segments`.
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
            return join_rows(self, parts, blocks, position)

    def _block(self, handle: Handle, end: int) -> Block:
        if handle.fed < end or handle.unscored:
            if handle.slot is not None:
                self._slots.vacate(handle.slot)
            self._feed([handle])
        block = handle.block if handle.slot is None else self._slots.cache.select(handle.slot)
        assert block is not None
        return block
