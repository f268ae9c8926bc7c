"""What `Policy.score` returns, and how it cuts rollouts into forward passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.models.forward import Way
from burnish.models.merged import check_merged
from burnish.models.needs import Need
from burnish.models.rows import Row, rows_of
from burnish.records import Rollout
from burnish.runs.errors import UserError


class Measured(dict[str, Any]):
    """need.key -> Tensor [K] in flat order (float32, or float64 for a float64 model), or a list with one result a rollout (reduces).

    ways: how each forward pass went (path, why, tokens).
    """

    def __init__(self, values: Mapping[str, Any] | None = None, ways: Sequence[Way] = ()):
        super().__init__(values or {})
        self.ways = list(ways)

    @property
    def why(self) -> str:
        """One line: how many passes went packed or plain, and the different reasons."""
        lines = dict.fromkeys(f"{way.path}: {way.why}" for way in self.ways)
        return "; ".join(lines)

    @property
    def tokens(self) -> int:
        """Tokens that passed the layers, padding included."""
        return sum(way.tokens for way in self.ways)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """rows[i]: the rows of rollout i, lengths[i]: its loss tokens, first[i]: where it starts in flat order."""

    rows: list[list[Row]]
    lengths: list[int]
    first: list[int]

    @property
    def total(self) -> int:
        """K."""
        return sum(self.lengths)

    def flat_index(self, batch: Sequence[int]) -> Tensor:
        """int64: places in flat order of the batch's tokens, rollout after rollout."""
        parts = [torch.arange(self.first[i], self.first[i] + self.lengths[i]) for i in batch]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def prepare(rollouts: Sequence[Rollout], max_length: int | None) -> Prepared:
    """The rows of each rollout. UserError where one is longer than the model's context, or was merged of what is not there any more."""
    check_merged(rollouts)
    rows = [rows_of([rollout])[0] for rollout in rollouts]
    lengths = [sum(len(row.targets) for row in mine) for mine in rows]
    for rollout, mine in zip(rollouts, rows):
        longest = max((len(row.needed) for row in mine), default=0)
        if max_length is not None and longest > max_length:
            raise UserError(
                f"a rollout of item {rollout.item_id!r} needs {longest} positions; the model has {max_length}: "
                "shorten prompts, or lower max_new_tokens"
            )
    first = [0]
    for length in lengths:
        first.append(first[-1] + length)
    return Prepared(rows, lengths, first[:-1])


def cut(prepared: Prepared, micro_tokens: int | None, share: bool) -> list[list[int]]:
    """Batches of rollouts (indices), each of about `micro_tokens` tokens; every rollout is whole, and in exactly one.

    Rollouts of like length come together. With `share`, those whose first rows start alike stay together and their common
    prefix counts once.
    """
    sizes = [sum(len(row.needed) for row in mine) for mine in prepared.rows]
    if micro_tokens is None or sum(sizes) <= micro_tokens:
        return [list(range(len(sizes)))] if sizes else []
    units: dict[bytes, list[int]] = {}
    prompts: dict[bytes, int] = {}
    for index, mine in enumerate(prepared.rows):
        start = mine[0].ids[: mine[0].targets[0]] if mine else ()
        key = bytes(start) if share and mine else index.to_bytes(8, "big")
        units.setdefault(key, []).append(index)
        prompts[key] = len(start) if share else 0
    batches: list[list[int]] = []
    filled = 0
    for key, unit in sorted(units.items(), key=lambda pair: (max(sizes[i] for i in pair[1]), pair[1])):
        own = [sizes[index] - (prompts[key] if sizes[index] else 0) for index in unit]
        fits = filled + prompts[key] + sum(own) <= micro_tokens
        for place, (size, index) in enumerate(sorted(zip(own, unit))):
            joining = prompts[key] if place == 0 else 0
            if not batches or ((place == 0 and not fits) or filled + joining + size > micro_tokens):
                batches.append([])
                filled, joining = 0, prompts[key]
            batches[-1].append(index)
            filled += joining + size
    return [sorted(batch) for batch in batches]


def same_tokens(rollouts: Sequence[Rollout], need: Need) -> list[Rollout]:
    """The rollouts in the need's context. UserError where that changes which tokens are scored."""
    if need.context is None:
        return list(rollouts)
    changed = [need.context(rollout) for rollout in rollouts]
    for before, after in zip(rollouts, changed):
        if _scored(before) != _scored(after):
            raise UserError(f"need {need.key!r}: its context changed which tokens of item {before.item_id!r} are scored")
    return changed


def _scored(rollout: Rollout) -> list[int]:
    return [token for turn in rollout.turns for token, scored in zip(turn.output_ids, turn.loss_mask) if scored]


def take(value: Any, index: Tensor, total: int) -> Any:
    """Extras of a term cut to a batch: tensors of length `total`, also inside dicts, lists and tuples, are indexed."""
    if isinstance(value, Tensor):
        return value[index.to(value.device)] if value.dim() and len(value) == total else value
    if isinstance(value, Mapping):
        return {key: take(part, index, total) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(take(part, index, total) for part in value)
    return value
