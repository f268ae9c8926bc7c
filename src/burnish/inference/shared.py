"""Prompts that several rows share: in a decoding step their keys and values are read once for all rows, not once for each.

Attention of a row is cut in two at a place that is the row's own: the end of its prompt, rounded down to a multiple of 16 (short
prompts are not cut). The products with the keys and values before it run with one matrix of all siblings' queries, those behind
it row by row; one softmax goes over both. A row without siblings is cut at the same place and multiplied by the same kernel, so
that its bits do not depend on how many siblings there are; `exactness.shares` tests that on the machine at hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

LEAST = 64  # tokens; shorter prompts are not cut
MULTIPLE = 16
PART = 128  # keys that one product of weights and values covers: longer sums may be split in other places for other lengths
QUERIES = 4  # query rows a product has at least: matrix libraries take other kernels for fewer


@dataclasses.dataclass(frozen=True, eq=False)
class Prefix:
    """The first `length` tokens of a row. Rows that share the object share these tokens' keys and values."""

    length: int

    @staticmethod
    def of(prompt_tokens: int) -> Prefix | None:
        """Of a prompt with so many tokens; None where it is too short to be cut."""
        return Prefix(prompt_tokens // MULTIPLE * MULTIPLE) if prompt_tokens >= LEAST else None


class Sharing:
    """How the rows of a decoding step share their prompts; valid while no row enters or leaves a slot.

    shortest, longest: tokens of the shortest and the longest prefix of a row (shortest 0 where one has none).
    lengths: int64 [rows].
    """

    def __init__(self, prefixes: Sequence[Prefix | None], live: np.ndarray, kv_heads: int, group: int, device: torch.device):
        rows = len(prefixes)
        own = np.array([0 if prefix is None else prefix.length for prefix in prefixes], dtype=np.int64)
        self.longest = int(own.max())
        self.shortest = int(own[live].min()) if live.any() else self.longest
        self.uniform = self.shortest == self.longest
        self.lengths = torch.from_numpy(own).to(device)
        members: dict[int, list[int]] = {}
        for row, prefix in enumerate(prefixes):
            if prefix is not None:
                members.setdefault(id(prefix), []).append(row)
        self.key = (rows, self.longest, tuple(members))
        self.stacked = 2 * len(members) <= rows
        self.first = torch.tensor([rows_of[0] for rows_of in members.values()], device=device)
        if not self.stacked:
            return
        width = max(max(map(len, members.values())), -(-QUERIES // group))
        # Places [groups, kv_heads, width] of the (row, kv head) pairs, and back. What has no place reads the first one: never seen.
        places = np.zeros((len(members), kv_heads, width), dtype=np.int64)
        back = np.zeros((rows, kv_heads), dtype=np.int64)
        heads = np.arange(kv_heads)
        for number, rows_of in enumerate(members.values()):
            for place, row in enumerate(rows_of):
                places[number, :, place] = row * kv_heads + heads
                back[row] = (number * kv_heads + heads) * width + place
        self.width = width
        self._places = torch.from_numpy(places.reshape(-1)).to(device)
        self._back = torch.from_numpy(back.reshape(-1)).to(device)

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """[rows * kv_heads, group, n] -> [products, queries, n]: the query rows that meet the same keys side by side."""
        if self.stacked:
            return x.index_select(0, self._places).view(-1, self.width * x.shape[1], x.shape[2])
        return F.pad(x, (0, 0, 0, QUERIES - x.shape[1])) if x.shape[1] < QUERIES else x

    def scatter(self, x: torch.Tensor, group: int) -> torch.Tensor:
        """The inverse of `gather`."""
        if self.stacked:
            return x.view(-1, group, x.shape[2]).index_select(0, self._back)
        return x[:, :group]

    def stack(self, held: torch.Tensor) -> torch.Tensor:
        """[products, longest, dim] of a layer's keys or values [slots, kv_heads, capacity, dim]."""
        if self.stacked:
            return held[self.first, :, : self.longest].flatten(0, 1)
        rows, kv_heads, capacity, dim = len(self.lengths), *held.shape[1:]
        return held[:rows].view(rows * kv_heads, capacity, dim)[:, : self.longest]
