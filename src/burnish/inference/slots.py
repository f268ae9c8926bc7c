"""Which handle sits in which slot: admission from the queue, eviction of paused rows, compaction where rows may be dropped."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from burnish.inference.cache import Cache
from burnish.inference.handle import Handle
from burnish.inference.sampling import Rows
from burnish.inference.shared_prompt import SharedCache
from burnish.records import Sampling

_IDLE = Sampling(temperature=0.0)


class Slots:
    """limit: most slots there may be. ladder: row counts a decoding step may have, ascending (exact mode: those the self-test has
    passed; one count alone means that every step has that many rows). The last is at least `limit`.
    """

    def __init__(self, cache: Cache | SharedCache, limit: int, ladder: tuple[int, ...], dtype: torch.dtype, device: torch.device):
        self.cache, self.limit, self.ladder = cache, limit, ladder
        self.handles: list[Handle | None] = [None] * ladder[-1]
        self.tokens = np.zeros(ladder[-1], dtype=np.int64)
        self.positions = np.zeros(ladder[-1], dtype=np.int64)
        self.queue: deque[Handle] = deque()
        self.dtype, self.device = dtype, device
        self._live: list[tuple[int, Handle]] | None = None
        self._rows: tuple[int, Rows] | None = None

    @property
    def live(self) -> list[tuple[int, Handle]]:
        """(slot, handle) of every live handle, by slot."""
        if self._live is None:
            self._live = [(s, h) for s, h in enumerate(self.handles) if h is not None and h.state == "live"]
        return self._live

    def changed(self) -> None:
        """Forget what was derived from the occupation of the slots."""
        self._live = self._rows = None

    def places(self) -> list[int]:
        """Slots that could take a handle now: empty ones, then those of paused handles (the longest-waiting first)."""
        empty = [s for s in range(self.limit) if self.handles[s] is None]
        paused = sorted((h.number, s) for s, h in enumerate(self.handles) if h is not None and h.state == "paused")
        return empty + [s for _, s in paused]

    def admit(self, handle: Handle, slot: int) -> None:
        """Put a fed handle into a slot."""
        self.vacate(slot)
        if handle.block is not None and isinstance(self.cache, SharedCache):
            self.cache.insert(slot, handle.block, shared=handle.block is handle.prompt)
        elif handle.block is not None:
            self.cache.insert(slot, handle.block)
        handle.block, handle.prompt, handle.slot = None, None, slot
        self.handles[slot] = handle
        self.changed()

    def activate(self, handle: Handle) -> None:
        """From now on this handle gets a token each step."""
        assert handle.slot is not None
        handle.state = "live"
        self.positions[handle.slot] = handle.fed + handle.offset
        self.tokens[handle.slot] = handle.ids[handle.fed] if handle.unfed else 0
        self.changed()

    def vacate(self, slot: int) -> None:
        """Empty a slot; the row moves to its handle's block."""
        handle = self.handles[slot]
        if handle is not None:
            # A model's own cache lives in its handle, and the slot holds no row.
            handle.block, handle.slot = self.cache.select(slot) if slot < self.cache.slots else None, None
        self.clear(slot)

    def clear(self, slot: int) -> None:
        """Empty a slot and forget its row."""
        self.handles[slot] = None
        if slot < self.cache.slots:
            self.cache.reset(slot)
        self.tokens[slot] = self.positions[slot] = 0
        self.changed()

    def row_count(self) -> int:
        """How many rows the next step computes; compacts first where fewer would do."""
        if len(self.ladder) == 1:
            return self.ladder[0]
        wanted = next(n for n in self.ladder if n >= len(self.live))
        top = self.live[-1][0] + 1
        if top > wanted:
            holes = [s for s in range(wanted) if (h := self.handles[s]) is None or h.state == "paused"]
            for slot, handle in [pair for pair in self.live if pair[0] >= wanted]:
                hole = holes.pop(0)
                if isinstance(self.cache, SharedCache):
                    self.vacate(hole)
                    self.cache.move(slot, hole)
                    self.handles[hole], handle.slot = handle, hole
                    self.clear(slot)
                else:
                    self.vacate(slot)
                    self.admit(handle, hole)
                self.activate(handle)
        return wanted

    def rows(self, n: int) -> Rows:
        """Sampling settings of the first n slots; idle ones are greedy."""
        if self._rows is None or self._rows[0] != n:
            settings = [_IDLE] * n
            seeds = [0] * n
            for slot, handle in self.live:
                settings[slot], seeds[slot] = handle.sampling, handle.seed
            if all(handle.sampling.temperature > 0 for _, handle in self.live):
                # Idle rows then draw like the others: their token is thrown away, and one way of drawing is computed, not two.
                settings = [s if s is not _IDLE else Sampling() for s in settings]
            self._rows = (n, Rows.of(settings, seeds, self.dtype, self.device))
        return self._rows[1]
