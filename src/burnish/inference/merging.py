"""Several rows as one: their keys and values side by side, each token at the position it was computed at."""

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
    out.fed = len(out.ids)
    out.offset = (int(positions.max()) + 1 if position is None else position) - len(out.ids)
