"""The cache: keys and values of every row, in slots for decoding and in blocks for rows that wait.

A `Block` holds one row's keys and values at its exact length; blocks are never written to once made, so forks share them.
The `Cache` holds [slots, kv_heads, capacity, head_dim] tensors per layer, written in place, that grow in steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

_STEP = 64  # tokens; a multiple of 16, so that every row of the cache starts on a 64-byte boundary


@dataclasses.dataclass(frozen=True)
class Block:
    """keys[layer], values[layer]: [kv_heads, n, head_dim]. positions: int64 [n], the position each key was computed at."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    positions: torch.Tensor

    @property
    def length(self) -> int:
        """Number of tokens held."""
        return int(self.positions.shape[0])

    def select(self, start: int, end: int) -> Block:
        """Tokens start..end as a block of its own."""
        cut = slice(start, end)
        return Block([k[:, cut] for k in self.keys], [v[:, cut] for v in self.values], self.positions[cut])

    @staticmethod
    def join(blocks: Sequence[Block]) -> Block:
        """One row made of several, in order. Keys keep the positions they were computed at: nothing is recomputed."""
        layers = range(len(blocks[0].keys))
        keys = [torch.cat([b.keys[i] for b in blocks], dim=1) for i in layers]
        values = [torch.cat([b.values[i] for b in blocks], dim=1) for i in layers]
        return Block(keys, values, torch.cat([b.positions for b in blocks]))


class Cache:
    """Rows of keys and values in slots. It owns their storage, lengths and positions.

    lengths: int64 numpy [slots]; the first lengths[s] entries of slot s are valid, the rest is never attended to.
    key_positions: int64 [slots, capacity], read only by layers with a sliding window.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.lengths = np.zeros(0, dtype=np.int64)
        self.key_positions = torch.zeros(0, 0, dtype=torch.int64, device=self.device)

    @property
    def slots(self) -> int:
        """Rows there is room for."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """Tokens there is room for in each row."""
        return int(self.key_positions.shape[1])

    def reserve(self, slots: int, length: int) -> None:
        """Make room for at least `slots` rows of `length` tokens; what is stored stays."""
        slots = max(slots, self.slots)
        capacity = self.capacity
        if length > capacity:
            capacity = -(-max(length, min(2 * capacity, capacity + 512)) // _STEP) * _STEP
        if (slots, capacity) == (self.slots, self.capacity):
            return
        self.keys = [_grown(k, slots, capacity) for k in self.keys]
        self.values = [_grown(v, slots, capacity) for v in self.values]
        positions = torch.zeros(slots, capacity, dtype=torch.int64, device=self.device)
        positions[: self.slots, : self.capacity] = self.key_positions
        self.key_positions = positions
        self.lengths = np.concatenate([self.lengths, np.zeros(slots - self.slots, dtype=np.int64)])

    def insert(self, slot: int, block: Block) -> None:
        """Put a block's tokens into `slot`, replacing what was there (one entry more is reserved for the next token)."""
        self.reserve(slot + 1, block.length + 1)
        if not self.keys:
            # Zeros, not empty memory: what lies behind a row's length is multiplied by zero weights, and 0 * NaN is NaN.
            self.keys = [k.new_zeros(self.slots, k.shape[0], self.capacity, k.shape[2]) for k in block.keys]
            self.values = [v.new_zeros(self.slots, v.shape[0], self.capacity, v.shape[2]) for v in block.values]
        n = block.length
        for mine, theirs in zip(self.keys + self.values, block.keys + block.values):
            mine[slot, :, :n] = theirs
        self.key_positions[slot, :n] = block.positions
        self.lengths[slot] = n

    def select(self, slot: int) -> Block:
        """A copy of one row."""
        n = int(self.lengths[slot])
        return Block(
            [k[slot, :, :n].clone(memory_format=torch.contiguous_format) for k in self.keys],
            [v[slot, :, :n].clone(memory_format=torch.contiguous_format) for v in self.values],
            self.key_positions[slot, :n].clone(),
        )

    def fork(self, source: int, targets: Sequence[int]) -> None:
        """Copy row `source` into each of `targets`."""
        n = int(self.lengths[source])
        self.reserve(max(targets) + 1, n + 1)
        for tensor in self.keys + self.values:
            for target in targets:
                tensor[target, :, :n] = tensor[source, :, :n]
        for target in targets:
            self.key_positions[target, :n] = self.key_positions[source, :n]
            self.lengths[target] = n

    def evict(self, slot: int) -> Block:
        """Take a row out: its tokens as a block; the slot is empty afterwards."""
        block = self.select(slot)
        self.reset(slot)
        return block

    def reset(self, slot: int) -> None:
        """Forget a row (its storage stays)."""
        self.lengths[slot] = 0


def _grown(tensor: torch.Tensor, slots: int, capacity: int) -> torch.Tensor:
    out = tensor.new_zeros(slots, tensor.shape[1], capacity, tensor.shape[3])
    out[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return out
