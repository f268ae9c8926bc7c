"""Setting an engine up: what the model is, how it is run, and which shapes keep a token's bits independent of its neighbours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch

from burnish.inference import own_cache, prefill, weights_state
from burnish.inference.cache import Cache
from burnish.inference.exactness import CHUNKS, Exactness, self_test
from burnish.inference.shared_prompt import SharedCache
from burnish.inference.slots import Slots
from burnish.inference.support import facts as facts_of
from burnish.inference.support import unwrapped
from burnish.inference.verify import choose_path
from burnish.inference.walker import WalkerPath
from burnish.runs.errors import UserError

DEFAULT_SLOTS = 64
FIXED_SLOTS = 16  # where every step must have the same number of rows and the caller named none


class EngineSetup:
    """The engine's construction; see `engine.Engine`."""

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
        model.eval()
        self._slots_wanted, self._mode_wanted = slots, mode
        self._own: own_cache.OwnCacheRunner | None = None
        self._runner: prefill.Path | None = None
        self.why = ""
        if self.facts.own_cache:
            self._set_up_own()
        else:
            self._runner, self.why = choose_path(model, self.facts)
            self._set_up()
        self._parameters = list(model.parameters())
        self._print = weights_state.fingerprint(self._parameters)
        self._keyed = hasattr(self._core, "batch_key")

    def _set_up_own(self) -> None:
        mode = self._mode_wanted
        self.mode = "exact" if mode == "exact" else "fast"
        self.why = "" if mode == "exact" else f"{self.facts.name} brings its own cache"
        self._own = own_cache.OwnCacheRunner(self._core, self.facts, exact=mode == "exact")
        limit = self._slots_wanted or DEFAULT_SLOTS
        self._exactness = Exactness((limit,), CHUNKS[0], prefill.FAST)
        self._make_slots(limit)

    def _set_up(self) -> None:
        mode = self._mode_wanted
        self._threads = torch.get_num_threads()
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
        cache = SharedCache(self.facts.device) if self._shares_prompts() else Cache(self.facts.device)
        self._slots = Slots(cache, limit, self._exactness.ladder, dtype, self.facts.device)

    def _shares_prompts(self) -> bool:
        """Fast mode, where every layer attends to everything and nothing but scaling stands between products and softmax."""
        if self.mode != "fast" or not isinstance(self._runner, WalkerPath) or hasattr(self._core, "batch_key"):
            return False
        return self._runner.weights.softcap is None and all(window is None for window in self.facts.windows)

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
