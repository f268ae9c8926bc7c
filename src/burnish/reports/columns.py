"""Token columns of a score: which tokens of a completion a shaper marked (1) or not (0), laid out over its turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = 4
"""So many columns have a colour of their own."""


def marks_of(turns: Sequence[Mapping[str, Any]], extras: Mapping[str, Any]) -> tuple[list[str], list[list[int | None]]]:
    """(names of the columns, sorted; for each turn and output token the place of the first column that marks it, or None).

    A column is a list in `extras` of zeros and ones, one for each token with loss, at most `SHOWN` of them.
    """
    masks = [_with_loss(turn) for turn in turns]
    total = sum(map(sum, masks))
    names = sorted(name for name, values in extras.items() if total and _is_column(values, total))[:SHOWN]
    out: list[list[int | None]] = []
    done = 0
    for mask in masks:
        row: list[int | None] = []
        for trained in mask:
            row.append(_first(extras, names, done) if trained else None)
            done += trained
        out.append(row)
    return names, out


def _with_loss(turn: Mapping[str, Any]) -> list[bool]:
    size = len(turn["output_ids"])
    injected = turn.get("injected") or [False] * size
    return [bool(turn.get("train", True)) and not forced for forced in injected]


def _is_column(values: Any, size: int) -> bool:
    return isinstance(values, list) and len(values) == size and all(value in (0, 1) for value in values)


def _first(extras: Mapping[str, Any], names: Sequence[str], place: int) -> int | None:
    return next((index for index, name in enumerate(names) if extras[name][place]), None)
