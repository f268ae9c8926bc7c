"""Semantic entropy: how evenly completions spread over strategies (arXiv 2509.03646, "Measures")."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from burnish.data.hicra.grams import Grams
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

UNITS = ("clusters", "grams")
DRAWS = 32


def entropy(counts: Mapping[object, int] | Sequence[int] | np.ndarray) -> float:
    """H = -sum_g p_g ln p_g with p_g = n_g / sum n, in nats; 0 for no occurrence."""
    values = np.asarray(list(counts.values()) if isinstance(counts, Mapping) else counts, dtype=np.float64)
    values = values[values > 0]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(abs(-(shares * np.log(shares)).sum()))


def subsampled(counts: Sequence[int] | np.ndarray, size: int, seed: int = 0) -> float | None:
    """The mean entropy of 32 draws of `size` occurrences without replacement: comparable whatever the number of occurrences.

    None where there are fewer than `size`.
    """
    values = np.asarray(counts, dtype=np.int64)
    if values.sum() < size or size < 1:
        return None
    drawn = rng("hicra subsample", seed).multivariate_hypergeometric(values, size, size=DRAWS)
    return float(np.mean([entropy(row) for row in drawn]))


@dataclasses.dataclass(frozen=True)
class SemanticEntropy:
    """value: nats over all occurrences. count: occurrences. fixed: the same of a fixed-size subsample, None where there are too few.

    kinds: how many clusters (or grams) occur. texts: completions.
    """

    value: float
    count: int
    fixed: float | None
    kinds: int
    texts: int


def check_unit(unit: str) -> None:
    """Raises UserError for anything but clusters and grams."""
    if unit not in UNITS:
        raise UserError(f"hicra: unit is {unit!r}; it must be one of {', '.join(UNITS)}")


def by_unit(occurrences: Mapping[int, int], grams: Grams, unit: str) -> np.ndarray:
    """int64 [clusters or grams]: occurrences of each. occurrences: number of a gram -> how often it occurred."""
    check_unit(unit)
    out = np.zeros(len(grams.clusters) if unit == "clusters" else len(grams.grams), dtype=np.int64)
    for gram, n in occurrences.items():
        out[grams.cluster_of[gram] if unit == "clusters" else gram] += n
    return out


def summed(counts: np.ndarray, texts: int, size: int = 256, seed: int = 0) -> SemanticEntropy:
    """The measure of these counts."""
    return SemanticEntropy(entropy(counts), int(counts.sum()), subsampled(counts, size, seed), int((counts > 0).sum()), texts)


def semantic_entropy(texts: Iterable[str], grams: Grams, unit: str = "clusters", size: int = 256, seed: int = 0) -> SemanticEntropy:
    """Over all occurrences of the grams in the completions (overlapping ones each count), by cluster or by gram.

    size: occurrences of the fixed-size subsample. The grams must stay the same for values that are to be compared.
    """
    occurrences: dict[int, int] = {}
    n = 0
    for text in texts:
        n += 1
        for match in grams.matcher.find(text):
            occurrences[match.gram] = occurrences.get(match.gram, 0) + 1
    return summed(by_unit(occurrences, grams, unit), n, size, seed)
