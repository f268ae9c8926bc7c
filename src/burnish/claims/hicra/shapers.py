"""The placebo's marks: as many tokens of each completion as are planning there, but others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Score
from burnish.runs.seeds import rng
from burnish.tasks.completions import Completions


class Placebo:
    """Writes the column `placebo`: a random n-gram of the completion's other tokens, as long as its planning tokens together.

    Stands behind the shaper `hicra`, whose column it reads. seed: of the places; the same item and rollout are marked alike every time.
    """

    name = "placebo"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The same scores with the column."""
        out = []
        for rollout, score in zip(group.rollouts, scores, strict=True):
            planning = np.asarray(score.extras["planning"], dtype=bool)
            others = np.flatnonzero(~planning)
            wanted = min(int(planning.sum()), len(others))
            first = int(rng("hicra placebo", self.seed, group.item.id, rollout.index).integers(len(others) - wanted + 1))
            marks = np.zeros(len(planning), dtype=int)
            marks[others[first : first + wanted]] = 1
            out.append(dataclasses.replace(score, extras={**score.extras, "placebo": marks.tolist()}))
        return out
