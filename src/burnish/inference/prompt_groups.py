"""Rows that share prompts: how they lie in memory, and their attention in a decoding step. See `shared_prompt`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from burnish.inference.attention import softmax
from burnish.inference.cache import Block

SPARSE = 1.25  # a layout this many times as large as it need be is made anew
READ_ONCE = 0.25  # what a prompt's token costs a row where it is read once for all siblings, in tokens read row by row
OVERHEAD = 512  # what sharing costs in a step, in tokens read row by row
_STEP = 64


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
        if not self.slots and not coming:
            return []
        staying = [(slot, self.prompt_of(slot)) for slot in self.place_of if slot < n]
        rows = sorted(staying + list(coming), key=lambda row: row[0])
        suffix = max((int(lengths[slot]) - prompt.length for slot, prompt in rows), default=0)
        members: dict[int, list[Block]] = {}
        for _, prompt in rows:
            members.setdefault(id(prompt), []).append(prompt)
        kept, width = _worth_sharing(members, suffix)
        sparse = len(self.slots) >= SPARSE * len(kept) * width
        if not sparse and len(kept) == len(members) and all(self._join(slot, prompt) for slot, prompt in coming):
            return []
        out = [(slot, self.select(slot, int(lengths[slot]))) for slot in self.place_of if slot >= n or id(self.prompt_of(slot)) not in kept]
        out += [(slot, prompt) for slot, prompt in coming if id(prompt) not in kept]
        self._rebuild([row for row in rows if id(row[1]) in kept], width)
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
        taken = slots >= 0
        own = lengths[slots] - stems
        own[~taken] = own[taken].max()  # like the others: rows of one length need no mask
        capacity = self.positions.shape[1]
        if own.max() >= capacity:
            more = -(-max(int(own.max()) + 1, min(2 * capacity, capacity + 512)) // _STEP) * _STEP
            self.positions = np.pad(self.positions, ((0, 0), (0, more - capacity)))
            pad = (0, 0, 0, more - capacity)
            self.keys = [torch.nn.functional.pad(k, pad) for k in self.keys]
            self.values = [torch.nn.functional.pad(v, pad) for v in self.values]
        live = taken & (slots < len(positions))
        self.positions[live, own[live]] = positions.cpu().numpy()[slots[live]]
        return GroupsPlan(self, own, stems, taken)


def _worth_sharing(members: dict[int, list[Block]], suffix: int) -> tuple[set[int], int]:
    """(the groups that share their prompts, the size of the largest): those with which a step reads least.

    members: a prompt for each row of a group. suffix: tokens behind the prompt, in the longest row. Every group takes as many
    places as the largest, and an empty place costs as much as a row; so small groups beside large ones had better not share.
    """
    order = sorted(members, key=lambda key: -len(members[key]))
    best, saved, rows, tokens, longest = 0, float(OVERHEAD), 0, 0, 0
    for count, key in enumerate(order, 1):
        rows += len(members[key])
        tokens += len(members[key]) * members[key][0].length
        longest = max(longest, members[key][0].length)
        saving = rows * suffix + tokens - count * len(members[order[0]]) * (suffix + READ_ONCE * longest)
        if saving > saved:
            best, saved = count, saving
    return set(order[:best]), len(members[order[0]]) if best else 0


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
        assert softcap is None
        assert window is None
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
