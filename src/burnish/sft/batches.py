"""Which examples form which optimiser step, and how a step is cut into forward passes: pure functions of lengths, seed and step number.

There is no iterator state to save: the batch of step t is the same whether t was reached in one go or after a restart.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from burnish.runs.errors import UserError
from burnish.runs.ranks import cut_evenly
from burnish.runs.seeds import rng

POOL = 50  # batches whose examples are sorted by length together


class Batches:
    """lengths: tokens of each example. batch_size: examples of one step; or batch_tokens: as many as fit, at least one.

    bucketing: examples of a step have similar lengths (pools of 50 batches are sorted, then the batches shuffled); without it they are
    drawn at random. Each epoch holds every example exactly once; its last batches may be smaller.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int = 16, batch_tokens: int | None = None, seed: int = 0, bucketing: bool = True
    ) -> None:
        if not len(lengths):
            raise UserError("sft: there is no example to train on")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.batch_size, self.batch_tokens, self.seed, self.bucketing = batch_size, batch_tokens, seed, bucketing
        self._starts = [0]  # first step of each epoch known so far
        self._epoch = functools.lru_cache(maxsize=2)(self._make_epoch)

    def at(self, step: int) -> list[int]:
        """The examples (indices) of step `step`, counted from 0."""
        epoch, place = self._find(step)
        return self._epoch(epoch)[place]

    def epoch(self, step: int) -> float:
        """Epochs completed after step `step` (TRL's `epoch`)."""
        epoch, place = self._find(step)
        return epoch + (place + 1) / len(self._epoch(epoch))

    def steps_in(self, epochs: float) -> int:
        """Steps that `epochs` passes over the data take; the last may be a part of one."""
        whole = int(epochs)
        self._know(whole)
        part = epochs - whole
        return self._starts[whole] + (int(np.ceil(part * len(self._epoch(whole)))) if part else 0)

    def _find(self, step: int) -> tuple[int, int]:
        while self._starts[-1] <= step:
            self._know(len(self._starts))
        epoch = int(np.searchsorted(self._starts, step, side="right")) - 1
        return epoch, step - self._starts[epoch]

    def _know(self, epochs: int) -> None:
        while len(self._starts) <= epochs:
            if self.batch_tokens is None:  # every epoch has the same number of batches: none has to be drawn to count them
                self._starts.append(self._starts[-1] + -(-len(self.lengths) // self.batch_size))
            else:
                self._starts.append(self._starts[-1] + len(self._epoch(len(self._starts) - 1)))

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        random = rng(self.seed, "sft.batches", epoch)
        order = random.permutation(len(self.lengths))
        if not self.bucketing:
            return self._cut(order)
        mean = max(1.0, float(self.lengths.mean()))
        size = self.batch_size if self.batch_tokens is None else max(1, int(self.batch_tokens / mean))
        pools = [order[start : start + POOL * size] for start in range(0, len(order), POOL * size)]
        # A stable sort keeps the shuffled order among equal lengths. Only the last pool may end in a small batch.
        batches = [batch for pool in pools for batch in self._cut(pool[np.argsort(self.lengths[pool], kind="stable")])]
        return [batches[place] for place in random.permutation(len(batches))]

    def _cut(self, order: np.ndarray) -> list[list[int]]:
        if self.batch_tokens is None:
            return [order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)]
        return fill(order.tolist(), self.lengths, self.batch_tokens)


def fill(order: Sequence[int], lengths: Sequence[int] | np.ndarray, tokens: int) -> list[list[int]]:
    """`order` cut into consecutive runs of at most `tokens` tokens; one that is longer by itself stands alone."""
    out: list[list[int]] = []
    room = 0
    for index in order:
        length = int(lengths[index])
        if not out or length > room:
            out.append([])
            room = tokens
        out[-1].append(index)
        room -= length
    return out


def shares(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """One step's examples (places) dealt to `parts` ranks, about equal in tokens, like lengths together; few may leave a rank none."""
    order = sorted(range(len(lengths)), key=lambda place: (-int(lengths[place]), place))
    return [sorted(order[at] for at in stretch) for stretch in cut_evenly([lengths[place] for place in order], parts)]


def slices(batch: Sequence[int], lengths: Sequence[int] | np.ndarray, micro_tokens: int) -> list[list[int]]:
    """One step's examples as forward passes of at most `micro_tokens` tokens, similar lengths together."""
    return fill(sorted(batch, key=lambda index: (-int(lengths[index]), index)), lengths, micro_tokens)
