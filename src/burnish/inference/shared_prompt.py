"""Fast mode's cache: rows forked from one prompt hold that prompt's keys and values once, and attend to them in one product.

In a decoding step of n rows, keys and values are most of what is read. Rows that were forked from one prefilled row have the same
prompt: its keys are multiplied with the queries of all of them at once. What a row has of its own behind the prompt (its suffix) is
multiplied row by row; one softmax goes over both. Sums are ordered differently than row by row, so exact mode does not use this.
"""

from __future__ import annotations

import numpy as np
import torch

from burnish.inference.attention import DecodePlan, Plan
from burnish.inference.cache import Block, Cache
from burnish.inference.prompt_groups import Groups

LEAST = 32  # tokens; sharing a shorter prompt costs more than it saves


class SharedCache:
    """What `Cache` is to `Slots`, with shared prompts. lengths: int64 numpy [slots], as there.

    A row is in one of three places: waiting (a block, until the next step), in `plain` (a row of a `Cache`), or in `groups`.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.plain, self.groups = Cache(device), Groups(self.device)
        self.lengths = np.zeros(0, dtype=np.int64)
        self._waiting: dict[int, tuple[Block, bool]] = {}
        self._rows: list[int] = []  # the slot of each row of `plain`
        self._gone: set[int] = set()  # rows of `plain` that are empty
        self._n, self._changed = 0, True
        self._index: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    @property
    def slots(self) -> int:
        """Rows there is room for."""
        return len(self.lengths)

    def reserve(self, slots: int, length: int) -> None:
        """Make room for `slots` rows. Room for tokens is made when a step begins."""
        if slots > self.slots:
            self.lengths = np.concatenate([self.lengths, np.zeros(slots - self.slots, dtype=np.int64)])

    def insert(self, slot: int, block: Block, shared: bool = False) -> None:
        """Put a block's tokens into `slot`. shared: other rows hold, or will hold, this very block too."""
        self.reserve(slot + 1, block.length)
        self.reset(slot)
        self._waiting[slot] = (block, shared)
        self.lengths[slot] = block.length

    def select(self, slot: int) -> Block:
        """One row, whole: a copy, or the block that was inserted where nothing has been added to it."""
        if slot in self._waiting:
            return self._waiting[slot][0]
        if slot in self.groups.place_of:
            return self.groups.select(slot, int(self.lengths[slot]))
        row = self._rows.index(slot)
        self.plain.lengths[row] = self.lengths[slot]
        return self.plain.select(row)

    def reset(self, slot: int) -> None:
        """Forget a row."""
        self.lengths[slot] = 0
        self._changed = True
        if self._waiting.pop(slot, None) is None and not self.groups.leave(slot) and slot in self._rows:
            row = self._rows.index(slot)
            self._rows[row] = -1
            self._gone.add(row)

    def move(self, source: int, target: int) -> None:
        """Row `source` is called `target` from now on; nothing is copied. `target` must be empty."""
        self.lengths[target], self.lengths[source] = self.lengths[source], 0
        self._changed = True
        if source in self._waiting:
            self._waiting[target] = self._waiting.pop(source)
        elif source in self.groups.place_of:
            self.groups.rename(source, target)
        else:
            self._rows[self._rows.index(source)] = target

    def plan(self, n: int, positions: torch.Tensor) -> Plan:
        """The plan of a step with one new token in each of the first n slots; positions: int64 [n]."""
        if self._changed or n != self._n:
            self._arrange(n)
        grouped = self.groups.plan(self.lengths, positions) if self.groups.place_of else None
        if not self._rows:
            assert grouped is not None
            return grouped if self._index is None else _Mixed(grouped, None, *self._index)
        rows = len(self._rows)
        slots = np.array(self._rows)
        self.plain.lengths[:rows] = self.lengths[slots]
        self.plain.reserve(rows, int(self.lengths[slots].max()) + 1)
        if self._index is None:
            return DecodePlan(self.plain, rows, positions, False, 1 << 30)
        plain = DecodePlan(self.plain, rows, positions[self._index[1]], False, 1 << 30)
        return _Mixed(grouped, plain, *self._index)

    def _arrange(self, n: int) -> None:
        """Give every one of the first n slots a place, and the others none if that costs anything."""
        for row, slot in enumerate(self._rows):
            if slot >= n:  # nobody is going to ask for it soon
                self.plain.lengths[row] = self.lengths[slot]
                self._waiting[slot] = (self.plain.select(row), False)
                self._gone.add(row)
        coming = [(slot, *self._waiting[slot]) for slot in sorted(self._waiting) if slot < n]
        for slot, block in self.groups.arrange([(slot, block) for slot, block, shared in coming if shared], n, self.lengths):
            self._waiting[slot] = (block, False)
        for slot in range(n):
            if slot in self.groups.place_of:
                self._waiting.pop(slot, None)
            elif slot in self._waiting:
                row = self._row_for(slot)
                self._gone.discard(row)
                self._rows[row : row + 1] = [slot]
                self.plain.insert(row, self._waiting.pop(slot)[0])
        while self._gone:  # the last row takes an empty one's place
            last = len(self._rows) - 1
            if last not in self._gone:
                row = self._row_for(self._rows[last])
                self._gone.discard(row)
                self.plain.insert(row, self._last_row(last))
                self._rows[row] = self._rows[last]
            self._gone.discard(last)
            self._rows.pop()
        self._n, self._changed, self._index = n, False, self._find(n)

    def _row_for(self, slot: int) -> int:
        """An empty row of `plain`, numbered like the slot if it can be: rows in the order of their slots need no gathering."""
        if slot in self._gone:
            return slot
        return min(self._gone) if self._gone else len(self._rows)

    def _last_row(self, row: int) -> Block:
        self.plain.lengths[row] = self.lengths[self._rows[row]]
        return self.plain.select(row)

    def _find(self, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """(slot of each place in groups, slot of each plain row, where each slot's output is); None where all are 0, 1, ... n - 1."""
        places = [slot if 0 <= slot < n else 0 for slot in self.groups.slots] if self.groups.place_of else []
        back = np.zeros(n, dtype=np.int64)
        for slot, place in self.groups.place_of.items():
            if slot < n:
                back[slot] = place
        for row, slot in enumerate(self._rows):
            back[slot] = len(places) + row
        if len(places) + len(self._rows) == n and (back == np.arange(n)).all() and not (places and self._rows):
            return None
        return (
            torch.tensor(places, dtype=torch.int64, device=self.device),
            torch.tensor(self._rows, dtype=torch.int64, device=self.device),
            torch.from_numpy(back).to(self.device),
        )


class _Mixed:
    """A plan for rows of both kinds, or rows whose places are in another order than their slots."""

    def __init__(self, grouped: Plan | None, plain: Plan | None, places: torch.Tensor, rows: torch.Tensor, back: torch.Tensor):
        self.parts = [(plan, index) for plan, index in ((grouped, places), (plain, rows)) if plan is not None]
        self.back = back

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, softcap: float | None, window: int | None
    ) -> torch.Tensor:
        """See `attention.Plan`."""
        out = [plan.attend(layer, q[index], k[index], v[index], scaling, softcap, window) for plan, index in self.parts]
        return (out[0] if len(out) == 1 else torch.cat(out)).index_select(0, self.back)
