"""What G2RL is compared with: the same noise without the geometry, and novelty of the text alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.rl.rewards.g2rl.exploration import Exploration
from burnish.rl.rewards.g2rl.shaper import G2RL, Novelty
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng
from burnish.tasks.completions import Completions


class RandomNubar(G2RL):
    """G2RL with the nubar of each group dealt out at random: the same numbers, the same cost, no geometry. The control.

    The deal depends on seed, item id and the version of the weights that sampled. seed: its own; fields: as for `G2RL`.
    """

    def __init__(self, seed: int = 0, name: str = "random_nubar", **fields: Any):
        super().__init__(name=name, **fields)
        self.seed = seed

    def nubar(self, found: Exploration, group: Completions, places: Sequence[int]) -> np.ndarray:
        """A permutation of the true ones."""
        versions = [int(turn.version[0]) for place in places for turn in group.rollouts[place].turns if len(turn.version)]
        generator = rng("random nubar", self.seed, group.item.id, max(versions, default=0))
        return found.nubar[generator.permutation(len(places))]


class NgramNovelty(Novelty):
    """The same shaping with the text in place of the gradient: vectors are counts of character n-grams. It measures nothing of the policy.

    Stands for novelty by an external text encoder (EVOL-RL). n: length of the grams. fields: see `Shaping`.
    """

    def __init__(self, n: int = 3, name: str = "ngram_novelty", **fields: Any):
        super().__init__(name, fields)
        if n < 1:
            raise UserError(f"shaper {name}: n is {n}; it must be at least 1")
        self.n = n

    def vectors(self, group: Completions, measured: Mapping[str, Any] | None) -> np.ndarray:
        """Counts [N, grams of the group]."""
        return ngram_counts(group.texts, self.n)


def ngram_counts(texts: Sequence[str], n: int) -> np.ndarray:
    """float64 [N, grams]: how often each character n-gram of any of the texts is in each; a shorter text is a gram of its own."""
    counted = [Counter(text[at : at + n] for at in range(max(len(text) - n + 1, 1 if text else 0))) for text in texts]
    place = {gram: number for number, gram in enumerate(sorted({gram for one in counted for gram in one}))}
    out = np.zeros((len(texts), max(len(place), 1)))
    for row, one in enumerate(counted):
        for gram, count in one.items():
            out[row, place[gram]] = count
    return out
