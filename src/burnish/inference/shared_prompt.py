"""Fast mode's cache: rows forked from one prompt hold that prompt's keys and values once, and attend to them in one product.

In a decoding step of n rows, keys and values are most of what is read. Rows that were forked from one prefilled row have the same
prompt: its keys are multiplied with the queries of all of them at once. What a row has of its own behind the prompt (its suffix) is
multiplied row by row; one softmax goes over both. Sums are ordered differently than row by row, so exact mode does not use this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from burnish.inference.attention import DecodePlan, Plan, softmax
from burnish.inference.cache import Block, Cache

LEAST = 32  # tokens; sharing a shorter prompt costs more than it saves
WASTE = 2  # most places for each row in them: groups of very different sizes do not share
_STEP = 64


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
                row = self._gone.pop() if self._gone else len(self._rows)
                self._rows[row : row + 1] = [slot]
                self.plain.insert(row, self._waiting.pop(slot)[0])
        for row in sorted(self._gone, reverse=True):  # the last row takes an empty one's place
            last = len(self._rows) - 1
            if row != last:
                self.plain.insert(row, self._last_row(last))
                self._rows[row] = self._rows[last]
            self._rows.pop()
        self._gone.clear()
        self._n, self._changed, self._index = n, False, self._find(n)

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
        return tuple(torch.tensor(index, dtype=torch.int64, device=self.device) for index in (places, self._rows, back))


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


class Groups:
    """Rows in groups of one prompt each. Group g has the places g * width, g * width + 1, ...; some may be empty.

    slots: slot of the row at each place, -1 where it is empty. place_of: the inverse. prompts: the block of each group, or None.
    stem_keys, stem_values: [kv_heads, groups, longest prompt, dim] for each layer. keys, values: the suffixes,
    [kv_heads, places, capacity, dim]. positions: int64 [places, capacity], those of the suffixes.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.slots: list[int] = []
        self.place_of: dict[int, int] = {}
        self.prompts: list[Block | None] = []
        self.width = 0
        self.stem_keys: list[torch.Tensor] = []
        self.stem_values: list[torch.Tensor] = []
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.positions = np.zeros((0, _STEP), dtype=np.int64)

    def prompt_of(self, slot: int) -> Block:
        """The prompt of a row."""
        prompt = self.prompts[self.place_of[slot] // self.width]
        assert prompt is not None
        return prompt

    def select(self, slot: int, length: int) -> Block:
        """A copy of one row, prompt and suffix; where it has no suffix, the prompt itself."""
        prompt, place = self.prompt_of(slot), self.place_of[slot]
        n = length - prompt.length
        if n == 0:
            return prompt
        positions = torch.from_numpy(self.positions[place, :n].copy()).to(self.device)
        return Block.join([prompt, Block([k[:, place, :n] for k in self.keys], [v[:, place, :n] for v in self.values], positions)])

    def leave(self, slot: int) -> bool:
        """Forget a row; False where it is not here."""
        place = self.place_of.pop(slot, None)
        if place is None:
            return False
        self.slots[place] = -1
        group = place // self.width
        if all(other < 0 for other in self.slots[group * self.width : (group + 1) * self.width]):
            self.prompts[group] = None
        return True

    def rename(self, source: int, target: int) -> None:
        """A row's slot has changed."""
        place = self.place_of[target] = self.place_of.pop(source)
        self.slots[place] = target

    def arrange(self, coming: Sequence[tuple[int, Block]], n: int, lengths: np.ndarray) -> list[tuple[int, Block]]:
        """Take rows in, and make the layout smaller where it is mostly empty. Returns rows that are not to be here (any more)."""
        staying = [(slot, self.prompt_of(slot)) for slot in self.place_of if slot < n]
        rows = sorted(staying + list(coming), key=lambda row: row[0])
        sizes: dict[int, int] = {}
        for _, prompt in rows:
            sizes[id(prompt)] = sizes.get(id(prompt), 0) + 1
        wanted = sorted(sizes.items(), key=lambda item: item[1])
        while wanted and len(wanted) * wanted[-1][1] > WASTE * sum(size for _, size in wanted):
            wanted.pop(0)
        sparse = len(self.slots) >= WASTE * len(wanted) * max((size for _, size in wanted), default=0)
        if not sparse and len(wanted) == len(sizes) and all(self._join(slot, prompt) for slot, prompt in coming):
            return []
        kept = {key for key, _ in wanted}
        out = [(slot, self.select(slot, int(lengths[slot]))) for slot in self.place_of if slot >= n or id(self.prompt_of(slot)) not in kept]
        out += [(slot, prompt) for slot, prompt in coming if id(prompt) not in kept]
        self._rebuild([row for row in rows if id(row[1]) in kept], max((size for _, size in wanted), default=0))
        return out

    def _join(self, slot: int, prompt: Block) -> bool:
        """Put a row without suffix at an empty place, if its group has or can be given one."""
        if slot in self.place_of:
            return True
        group = next((g for g, held in enumerate(self.prompts) if held is prompt), None)
        if group is None:
            group = next((g for g, held in enumerate(self.prompts) if held is None), None)
            if group is None or prompt.length > self.stem_keys[0].shape[2]:
                return False
            self._plant(group, prompt)
        first = group * self.width
        place = next((p for p in range(first, first + self.width) if self.slots[p] < 0), None)
        if place is None:
            return False
        self.slots[place], self.place_of[slot] = slot, place
        return True

    def _plant(self, group: int, prompt: Block) -> None:
        self.prompts[group] = prompt
        for stems, own in ((self.stem_keys, prompt.keys), (self.stem_values, prompt.values)):
            for stem, tensor in zip(stems, own):
                stem[:, group, : prompt.length] = tensor

    def _rebuild(self, rows: list[tuple[int, Block]], width: int) -> None:
        """A layout for these rows alone, in the order of their groups' first slots."""
        prompts = list({id(prompt): prompt for _, prompt in rows}.values())
        group_of = {id(prompt): group for group, prompt in enumerate(prompts)}
        used = [0] * len(prompts)
        slots = [-1] * (len(prompts) * width)
        pairs = []  # (old place, new place)
        for slot, prompt in rows:
            group = group_of[id(prompt)]
            place = group * width + used[group]
            used[group] += 1
            slots[place] = slot
            if slot in self.place_of:
                pairs.append((self.place_of[slot], place))
        old, new = [p for p, _ in pairs], [p for _, p in pairs]
        capacity = self.positions.shape[1]
        positions = np.zeros((len(slots), capacity), dtype=np.int64)
        positions[new] = self.positions[old]
        self.slots, self.width, self.positions = slots, width, positions
        self.place_of = {slot: place for place, slot in enumerate(slots) if slot >= 0}
        self.prompts = [None] * len(prompts)
        if not prompts:
            self.keys, self.values, self.stem_keys, self.stem_values = [], [], [], []
            return
        # Zeros, not empty memory: what lies behind a row's end is multiplied by zero weights, and 0 * NaN is NaN.
        longest = max(prompt.length for prompt in prompts)
        some = [*prompts[0].keys, *prompts[0].values]
        held = self.keys + self.values
        suffixes = [x.new_zeros(x.shape[0], len(slots), capacity, x.shape[2]) for x in some]
        for suffix, before in zip(suffixes, held):
            suffix[:, new] = before[:, old]
        stems = [x.new_zeros(x.shape[0], len(prompts), longest, x.shape[2]) for x in some]
        half = len(prompts[0].keys)
        self.keys, self.values = suffixes[:half], suffixes[half:]
        self.stem_keys, self.stem_values = stems[:half], stems[half:]
        for group, prompt in enumerate(prompts):
            self._plant(group, prompt)

    def plan(self, lengths: np.ndarray, positions: torch.Tensor) -> GroupsPlan:
        """The plan of a step; lengths of all slots' rows, positions of the slots that are computed."""
        slots = np.array(self.slots)
        stems = np.repeat([0 if prompt is None else prompt.length for prompt in self.prompts], self.width)
        own = np.where(slots < 0, 0, lengths[slots] - stems)
        capacity = self.positions.shape[1]
        if own.max() >= capacity:
            more = -(-max(int(own.max()) + 1, min(2 * capacity, capacity + 512)) // _STEP) * _STEP
            self.positions = np.pad(self.positions, ((0, 0), (0, more - capacity)))
            pad = (0, 0, 0, more - capacity)
            self.keys = [torch.nn.functional.pad(k, pad) for k in self.keys]
            self.values = [torch.nn.functional.pad(v, pad) for v in self.values]
        live = (slots >= 0) & (slots < len(positions))
        self.positions[live, own[live]] = positions.cpu().numpy()[slots[live]]
        return GroupsPlan(self, own, stems, slots >= 0)


class GroupsPlan:
    """One new token at each place. own: suffix tokens so far, stems: prompt tokens, taken: whether there is a row; each [places]."""

    def __init__(self, groups: Groups, own: np.ndarray, stems: np.ndarray, taken: np.ndarray):
        self.groups = groups
        self.length = int(own.max()) + 1
        self.stem = int(stems.max())
        self.places, self.own = len(own), own
        self.even = bool((own == own[0]).all())
        self.hidden = not (self.even and (stems[taken] == self.stem).all())
        self.stems = stems
        self._bias: torch.Tensor | None = None
        self._index: torch.Tensor | None = None

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, softcap: float | None, window: int | None
    ) -> torch.Tensor:
        """See `attention.Plan`; rows are places. No soft-cap, no window."""
        assert softcap is None and window is None
        held = self.groups
        keys, values, places, length, stem = held.keys[layer], held.values[layer], self.places, self.length, self.stem
        kv_heads, _, capacity, dim = keys.shape
        value_dim, group = values.shape[3], q.shape[1] // kv_heads
        self._write(keys, k)
        self._write(values, v)
        # Heads first: the rows [kv_heads * places, group, dim] of all siblings are then one matrix [width * group, dim] as they lie.
        queries = torch.mul(q.view(places, kv_heads, group, dim).transpose(0, 1), scaling, out=q.new_empty(kv_heads, places, group, dim))
        products, rows = (-1, held.width * group), (kv_heads * places, group)
        stem_keys = held.stem_keys[layer].flatten(0, 1)[:, :stem]
        stem_values = held.stem_values[layer].flatten(0, 1)[:, :stem]
        before = torch.bmm(queries.view(*products, dim), stem_keys.transpose(1, 2)).view(*rows, stem)
        after = torch.bmm(queries.view(*rows, dim), keys.view(-1, capacity, dim)[:, :length].transpose(1, 2))
        weights = torch.cat([before, after], dim=2)
        if self.hidden:
            weights.view(kv_heads, places, group, -1).add_(self._bias_for(weights.dtype))
        weights = softmax(weights)
        out = torch.bmm(weights.view(*products, stem + length)[..., :stem], stem_values).view(*rows, value_dim)
        out.baddbmm_(weights[..., stem:], values.view(-1, capacity, value_dim)[:, :length])
        return out.view(kv_heads, places, group, value_dim).transpose(0, 1).reshape(places, kv_heads * group, value_dim)

    def _write(self, store: torch.Tensor, new: torch.Tensor) -> None:
        """new: [places, kv_heads, dim], each behind its row's suffix."""
        if self.even:
            store[:, :, self.length - 1] = new.transpose(0, 1)
            return
        kv_heads, places, capacity, dim = store.shape
        if self._index is None:
            first = (np.arange(kv_heads)[None, :] * places + np.arange(places)[:, None]) * capacity
            self._index = torch.from_numpy((first + self.own[:, None]).reshape(-1)).to(store.device)
        store.view(-1, dim).index_copy_(0, self._index, new.reshape(-1, dim))

    def _bias_for(self, dtype: torch.dtype) -> torch.Tensor:
        """0 where a place sees a key, -inf elsewhere: [places, 1, stem + length]."""
        if self._bias is None:
            before = np.arange(self.stem) >= self.stems[:, None]
            after = np.arange(self.length) > self.own[:, None]
            hidden = torch.from_numpy(np.concatenate([before, after], axis=1)).to(self.groups.device)
            self._bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)[:, None]
        return self._bias
