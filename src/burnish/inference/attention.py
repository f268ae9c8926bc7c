"""Attention over the session's cache: one plan for a decoding step, one for a prefill pass.

A plan is made once for each forward pass and then called by every layer with that layer's queries, keys and values; it stores
the keys and values and returns the attended values. Both ways of running a model (its own modules, or the flat walker of
`walker.py`) call the same plans, so the two differ in nothing but the projections around them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from burnish.inference.cache import Block, Cache

KEY_MULTIPLE = 16  # key lengths are rounded up to a multiple of this in exact mode
SMALL_PRODUCT = 400  # torch multiplies smaller matrices with another kernel, whose sums are ordered differently


class Plan(Protocol):
    """What a layer calls."""

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, softcap: float | None, window: int | None
    ) -> torch.Tensor:
        """q [T, heads, dim], k and v [T, kv_heads, dim] -> [T, heads, value_dim]. window: tokens a query sees, itself included."""


def rounded_key_length(length: int, query_rows: int, dim: int) -> int:
    """`length` rounded up for exact mode; never so short that torch's small-matrix kernel would be used."""
    least = -(-SMALL_PRODUCT // (query_rows * dim))
    return -(-max(length, least) // KEY_MULTIPLE) * KEY_MULTIPLE


class DecodePlan:
    """One new token in each of the first `rows` slots.

    positions: int64 [rows], where each token stands. chunk: keys that one product of weights and values may cover. Matrix
    libraries split long sums into parts that depend on the sum's length; in parts of one fixed length, the keys a row does not
    have add exact zeros at the end and change no bit.
    """

    def __init__(self, cache: Cache, rows: int, positions: torch.Tensor, exact: bool, chunk: int):
        self.cache, self.rows, self.positions, self.exact, self.chunk = cache, rows, positions, exact, chunk
        lengths = cache.lengths[:rows]
        self.longest = int(lengths.max()) + 1
        self.lengths = torch.from_numpy(lengths.copy()).to(cache.device)
        self._index: dict[tuple[int, int], torch.Tensor] = {}
        self._bias: dict[tuple[int, int | None, int, int], torch.Tensor] = {}
        cache.key_positions[torch.arange(rows, device=cache.device), self.lengths] = positions

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, softcap: float | None, window: int | None
    ) -> torch.Tensor:
        """See `Plan`."""
        keys, values, rows = self.cache.keys[layer], self.cache.values[layer], self.rows
        kv_heads, capacity, dim = keys.shape[1:]
        index = self._write_index(kv_heads, capacity)
        keys.view(-1, dim).index_copy_(0, index, k.reshape(-1, dim))
        values.view(-1, values.shape[3]).index_copy_(0, index, v.reshape(-1, values.shape[3]))
        group = q.shape[1] // kv_heads
        length = rounded_key_length(self.longest, group, min(dim, values.shape[3])) if self.exact else self.longest
        if length > capacity:
            self.cache.reserve(rows, length)
            return self.attend(layer, q, k, v, scaling, softcap, window)
        # [rows * kv_heads, group, dim] against [rows * kv_heads, length, dim]: grouped heads need no repeated keys.
        queries = q.reshape(rows * kv_heads, group, dim)
        seen = keys[:rows].view(rows * kv_heads, capacity, dim)[:, :length].transpose(1, 2)
        bias = self._bias_for(length, window, kv_heads, group, q.dtype)
        if softcap is None:
            weights = torch.baddbmm(bias, queries, seen, alpha=scaling)
        else:
            weights = torch.bmm(queries, seen).mul_(scaling / softcap).tanh_().mul_(softcap).add_(bias)
        weights = softmax(weights)
        held = values[:rows].view(rows * kv_heads, capacity, values.shape[3])
        if length <= self.chunk:
            out = torch.bmm(weights, held[:, :length])
        else:
            out = torch.bmm(weights[..., : self.chunk], held[:, : self.chunk])
            for start in range(self.chunk, length, self.chunk):
                end = min(start + self.chunk, length)
                out.baddbmm_(weights[..., start:end], held[:, start:end])
        return out.view(rows, kv_heads * group, values.shape[3])

    def _write_index(self, kv_heads: int, capacity: int) -> torch.Tensor:
        index = self._index.get((kv_heads, capacity))
        if index is None:
            first = torch.arange(self.rows * kv_heads, device=self.cache.device).view(self.rows, kv_heads) * capacity
            index = self._index[kv_heads, capacity] = (first + self.lengths[:, None]).flatten()
        return index

    def _bias_for(self, length: int, window: int | None, kv_heads: int, group: int, dtype: torch.dtype) -> torch.Tensor:
        """0 where the key is seen, -inf elsewhere: [rows * kv_heads, group, length]; made once for all layers that agree on it."""
        key = (length, window, kv_heads, group)
        if key not in self._bias:
            seen = torch.arange(length, device=self.cache.device) <= self.lengths[:, None]
            if window is not None:
                seen &= self.positions[:, None] - self.cache.key_positions[: self.rows, :length] < window
            bias = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
            shape = (self.rows, kv_heads, group, length)
            self._bias[key] = bias[:, None, None].expand(shape).reshape(self.rows * kv_heads, group, length)
        return self._bias[key]


class Segment:
    """Tokens [start, end) of a prefill pass, which continue one row: `past` holds its keys and values so far, or is None."""

    def __init__(self, start: int, end: int, past: Block | None, positions: torch.Tensor):
        self.start, self.end, self.past = start, end, past
        self.positions = positions if past is None else torch.cat([past.positions, positions])
        self.keys: dict[int, torch.Tensor] = {}
        self.values: dict[int, torch.Tensor] = {}
        self._masks: dict[int | None, torch.Tensor] = {}

    def block(self) -> Block:
        """The row's block after the pass."""
        layers = sorted(self.keys)
        return Block([self.keys[i] for i in layers], [self.values[i] for i in layers], self.positions)

    def fill(self, layers: int) -> None:
        """Give layers that the row skipped keys and values of zero: they hold the place, and such a row never looks at them."""
        pairs = ((self.keys, self.past and self.past.keys), (self.values, self.past and self.past.values))
        for own, past in pairs:
            some = next(iter(own.values()))
            for layer in set(range(layers)) - set(own):
                own[layer] = torch.zeros_like(some)
                if past:
                    own[layer][:, : past[layer].shape[1]] = past[layer]

    def hidden_keys(self, window: int | None) -> torch.Tensor:
        """bool [m, n]: True where the m-th new token does not see the n-th key."""
        if window not in self._masks:
            n, m = self.positions.shape[0], self.end - self.start
            index = torch.arange(n, device=self.positions.device)
            hidden = index[None, :] > index[n - m :, None]
            if window is not None:
                hidden |= self.positions[n - m :, None] - self.positions[None, :] >= window
            self._masks[window] = hidden
        return self._masks[window]


class PrefillPlan:
    """A pass over the tokens of several rows laid end to end; each row attends to itself alone, at its own exact shape."""

    def __init__(self, segments: list[Segment]):
        self.segments = segments
        self._runs = _runs(segments)

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float, softcap: float | None, window: int | None
    ) -> torch.Tensor:
        """See `Plan`. Rows of the output that belong to no segment (padding) are zero."""
        heads, kv_heads, value_dim = q.shape[1], k.shape[1], v.shape[2]
        out = q.new_zeros(q.shape[0], heads, value_dim)
        for run in self._runs:
            n, m, cut = len(run), run[0].end - run[0].start, slice(run[0].start, run[-1].end)
            keys = k[cut].view(n, m, kv_heads, -1).transpose(1, 2).contiguous()
            values = v[cut].view(n, m, kv_heads, value_dim).transpose(1, 2).contiguous()
            past = run[0].past
            if past is not None:
                keys = torch.cat([past.keys[layer][None], keys], dim=2)
                values = torch.cat([past.values[layer][None], values], dim=2)
            for i, segment in enumerate(run):
                segment.keys[layer], segment.values[layer] = keys[i], values[i]
            total, group = keys.shape[2], heads // kv_heads
            queries = (q[cut] * scaling).view(n, m, heads, -1).transpose(1, 2).reshape(n * kv_heads, group * m, -1)
            weights = torch.bmm(queries, keys.view(n * kv_heads, total, -1).transpose(1, 2))
            if softcap is not None:
                weights = weights.div_(softcap).tanh_().mul_(softcap)
            if m > 1 or window is not None:
                weights.view(n * heads, m, total).masked_fill_(run[0].hidden_keys(window), -torch.inf)
            attended = torch.bmm(softmax(weights), values.view(n * kv_heads, total, value_dim))
            out[cut] = attended.view(n, heads, m, value_dim).transpose(1, 2).reshape(n * m, heads, value_dim)
        return out


def _runs(segments: list[Segment]) -> list[list[Segment]]:
    """Neighbouring segments of one length that begin their rows: one batch of equal shapes each."""
    runs: list[list[Segment]] = []
    for segment in segments:
        last = runs[-1][-1] if runs else None
        same = last is not None and last.past is None and segment.past is None and last.end == segment.start
        if last is not None and same and last.end - last.start == segment.end - segment.start:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return runs


def softmax(weights: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, computed in float32 at least."""
    if weights.dtype in (torch.float32, torch.float64):
        return torch.softmax(weights, dim=-1)
    return torch.softmax(weights, dim=-1, dtype=torch.float32).to(weights.dtype)


def as_positions(positions: list[int] | np.ndarray, device: torch.device) -> torch.Tensor:
    """int64 tensor on the device."""
    return torch.as_tensor(np.asarray(positions, dtype=np.int64), device=device)
