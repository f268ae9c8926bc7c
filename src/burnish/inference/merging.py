"""Several rows as one: their keys and values side by side, each token at the position it was computed at.

Turn.replay of a merged row says what a learner needs to compute it again: see `burnish.models.merged`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from burnish.inference.cache import Block
from burnish.inference.handle import Handle


def fill_merged(out: Handle, parts: Sequence[tuple[Handle, int, int]], blocks: Sequence[Block], position: int | None) -> None:
    """Give the new handle `out`, whose ids are those of the parts in order, their cache, positions and segments."""
    out.block = Block.join(blocks)
    positions = out.block.positions.cpu().numpy()
    segments = np.concatenate([np.full(end - start, i, dtype=np.int64) for i, (_, start, end) in enumerate(parts)])
    out.merged = np.stack([positions, segments])
    out.replay = dict(out.replay) | {"paths": paths_of(parts)}
    out.fed = len(out.ids)
    out.offset = (int(positions.max()) + 1 if position is None else position) - len(out.ids)


def paths_of(parts: Sequence[tuple[Handle, int, int]]) -> np.ndarray:
    """int64 [*, 3]: (part, start, end) for each stretch of the merged row that a part's tokens saw besides their own part.

    What a part's row held before its cut is looked for in the other parts: keys and values are the same wherever a row began with the
    same tokens. (part, -1, n): n tokens were not found. A part that was merged itself counts as not found altogether.
    """
    places = np.cumsum([0] + [end - start for _, start, end in parts])
    found: list[tuple[int, int, int]] = []
    for number, (handle, start, end) in enumerate(parts):
        at, lost = 0, 0 if handle.merged is None else end
        while at < start and handle.merged is None:
            reach = [min(stop, start, _common(handle, other)) if first <= at else 0 for other, first, stop in parts]
            best = int(np.argmax(reach))
            if other_holds := reach[best] > at:
                place = int(places[best]) + at - parts[best][1]
                found.append((number, place, place + reach[best] - at))
            lost, at = (lost, reach[best]) if other_holds else (lost + 1, at + 1)
        if lost:
            found.append((number, -1, lost))
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def _common(a: Handle, b: Handle) -> int:
    """Tokens with which both rows begin, at the same positions."""
    if b.merged is not None or a.offset != b.offset:
        return 0
    n = min(len(a.ids), len(b.ids))
    return next((i for i in range(n) if a.ids[i] != b.ids[i]), n)
