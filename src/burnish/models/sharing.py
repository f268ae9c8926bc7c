"""Which rows share a prefix, and how they lie in one packed row.

The packed row is [prefix of group 1, prefix of group 2, ..., branch 1, branch 2, ...] with positions that start again at each
prefix and go on from it in each branch. Linear layers, norms and embeddings read it as it is, without any padding; only attention
(models/attention.py) needs to know the layout. A row that shares with no other is a prefix without branches.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MIN_SAVING = 4  # tokens saved by a group below which its rows stay alone


@dataclasses.dataclass(frozen=True)
class Shared:
    """members: rows (indices) that all start with the same `prefix` tokens; a single row has its whole length as prefix."""

    members: tuple[int, ...]
    prefix: int


def groups_of(rows: Sequence[np.ndarray], share: bool = True) -> list[Shared]:
    """Cut rows (int64 arrays) into groups with a common prefix so that the most tokens are saved.

    In lexicographic order rows with a common prefix are neighbours; the best cut of that order is found exactly, by dynamic
    programming over `saved(i..j) = (rows - 1) * common prefix`.
    """
    singles = [Shared((index,), len(row)) for index, row in enumerate(rows)]
    if not share or len(rows) < 2:
        return singles
    order = sorted(range(len(rows)), key=lambda index: rows[index].astype(">u4").tobytes())
    common = np.array([_common(rows[a], rows[b]) for a, b in itertools.pairwise(order)])
    best = np.zeros(len(order) + 1, dtype=np.int64)
    start = np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        # shortest[i] is the prefix common to order[i:end]; one row alone saves nothing
        shortest = np.append(np.minimum.accumulate(common[: end - 1][::-1])[::-1], 0)
        saved = shortest * (end - 1 - np.arange(end))
        saved[saved < MIN_SAVING] = 0
        total = best[:end] + saved
        start[end] = end - 1 - int(np.argmax(total[::-1]))  # the latest start among equals: no group without a gain
        best[end] = total[start[end]]
    found, end = [], len(order)
    while end:
        first = int(start[end])
        members = tuple(sorted(order[first:end]))
        found.append(singles[members[0]] if len(members) == 1 else Shared(members, int(common[first : end - 1].min())))
        end = first
    return sorted(found, key=lambda group: group.members)


def _common(a: np.ndarray, b: np.ndarray) -> int:
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


class Block:
    """Pieces of the packed row, lying one after the other from `start`, and their padded form [pieces, longest].

    index: int64 [pieces * longest] into the block's tokens (padding repeats a piece's last token), None where all are equally long.
    keep: int64 [tokens], where each token lies in the padded form; None likewise.
    """

    def __init__(self, start: int, sizes: np.ndarray):
        self.start, self.sizes, self.pieces = start, sizes, len(sizes)
        self.tokens = int(sizes.sum())
        self.longest = int(sizes.max()) if len(sizes) else 0
        self.first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else np.zeros(0, dtype=np.int64)
        self.index: Tensor | None = None
        self.keep: Tensor | None = None
        if len(sizes) and self.tokens != self.pieces * self.longest:
            steps = np.arange(self.longest)
            self.index = torch.from_numpy((self.first[:, None] + np.minimum(steps, sizes[:, None] - 1)).ravel())
            self.keep = torch.from_numpy(np.flatnonzero((steps < sizes[:, None]).ravel()))

    def to(self, device: torch.device) -> None:
        """Move the indices."""
        self.index = None if self.index is None else self.index.to(device)
        self.keep = None if self.keep is None else self.keep.to(device)


class Layout:
    """The packed form of rows under a grouping.

    ids, positions: int64 [T]. prefixes, branches: `Block`s (the branches follow the prefixes). owner: int64 [branches], the group
    of each branch. prefix_sizes: int64 [groups].
    """

    def __init__(self, rows: Sequence[np.ndarray], groups: Sequence[Shared], device: torch.device):
        pairs = [(number, row) for number, group in enumerate(groups) for row in group.members if len(rows[row]) > group.prefix]
        prefix = np.array([group.prefix for group in groups], dtype=np.int64)
        ends = np.array([len(rows[row]) - groups[number].prefix for number, row in pairs], dtype=np.int64)
        self.prefixes = Block(0, prefix)
        self.branches = Block(self.prefixes.tokens, ends)
        heads = [rows[group.members[0]][: group.prefix] for group in groups]
        tails = [rows[row][groups[number].prefix :] for number, row in pairs]
        self.ids = torch.from_numpy(np.concatenate(heads + tails)).to(device)
        spans = [np.arange(size) for size in prefix] + [groups[number].prefix + np.arange(size) for (number, _), size in zip(pairs, ends)]
        self.positions = torch.from_numpy(np.concatenate(spans)).to(device)
        self.owner = torch.tensor([number for number, _ in pairs], dtype=torch.int64, device=device)
        self.prefix_sizes = torch.from_numpy(prefix).to(device)
        self._prefix_of = {row: (int(self.prefixes.first[n]), group.prefix) for n, group in enumerate(groups) for row in group.members}
        self._branch_of = {row: self.branches.start + int(at) for (_, row), at in zip(pairs, self.branches.first)}
        self.prefixes.to(device)
        self.branches.to(device)

    def where(self, row: int, places: np.ndarray) -> np.ndarray:
        """int64 [n]: where the tokens `places` of a row lie in the packed row."""
        first, size = self._prefix_of[row]
        return np.where(places < size, first + places, self._branch_of.get(row, 0) + places - size)


@dataclasses.dataclass(frozen=True)
class Cost:
    """tokens: that pass the linear layers. pairs: (query, key) pairs that attention computes in each layer."""

    tokens: int
    pairs: int


def packed_cost(rows: Sequence[np.ndarray], groups: Sequence[Shared]) -> Cost:
    """What the packed form of this grouping computes, attention's padding included."""
    prefix = [group.prefix for group in groups]
    ends = [len(rows[row]) - group.prefix for group in groups for row in group.members if len(rows[row]) > group.prefix]
    pairs = len(prefix) * max(prefix) ** 2 // 2
    if ends:
        pairs += len(ends) * max(ends) * (max(prefix) + max(ends))
    return Cost(sum(prefix) + sum(ends), pairs)
