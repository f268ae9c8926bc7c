"""Hold rows out for evaluation."""

from __future__ import annotations

import numpy as np

from burnish.data.rows import Rows
from burnish.runs.errors import UserError


def hold_out(rows: Rows, n: int, seed: int = 0) -> tuple[Rows, Rows]:
    """(training rows, n held-out rows), disjoint, both in the source's order; the choice depends on the seed and the number of rows only.

    Raises UserError where fewer than n + 1 rows are there.
    """
    if n < 0 or n >= len(rows):
        raise UserError(
            f"{rows.report.source}: cannot hold out {n} of {len(rows)} rows, for at least one must be left to train on; hold out fewer"
        )
    held = set(np.random.Generator(np.random.PCG64(seed)).permutation(len(rows))[:n].tolist())
    return rows.take([i for i in range(len(rows)) if i not in held]), rows.take(sorted(held))
