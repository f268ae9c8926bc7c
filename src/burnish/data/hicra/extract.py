"""Extraction of strategic grams from correct solutions (arXiv 2509.03646, "Strategic grams": list, embed, cluster, rank by CDF)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.data.hicra.encoders import NEED_SKLEARN, encode, make_encoder
from burnish.data.hicra.grams import Cluster, Grams
from burnish.data.hicra.words import Matcher, ngrams, phrase_words
from burnish.runs.errors import UserError

MANY = 20_000
"""More n-grams than this are clustered in mini-batches."""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The n-grams of a corpus. phrases: in order of first occurrence. solutions: for each phrase those that contain it, rising.

    counts: occurrences of each phrase in all solutions together. size: number of solutions.
    """

    phrases: tuple[str, ...]
    solutions: tuple[np.ndarray, ...]
    counts: np.ndarray
    size: int

    @property
    def frequency(self) -> np.ndarray:
        """int64 [phrases]: solutions that contain the phrase."""
        return np.array([len(found) for found in self.solutions], dtype=np.int64)


def list_ngrams(solutions: Iterable[str], n: tuple[int, int] = (3, 5)) -> Corpus:
    """All word n-grams of n[0] to n[1] words with the solutions they occur in (step 1)."""
    places: dict[str, list[int]] = {}
    counts: dict[str, int] = {}
    size = 0
    for number, text in enumerate(solutions):
        size += 1
        for phrase in ngrams(text, *n):
            counts[phrase] = counts.get(phrase, 0) + 1
            found = places.setdefault(phrase, [])
            if not found or found[-1] != number:
                found.append(number)
    return Corpus(
        tuple(places), tuple(np.array(found) for found in places.values()), np.array([counts[phrase] for phrase in places], np.int64), size
    )


def choose(corpus: Corpus, min_solutions: int = 1, stop: Sequence[str] = ()) -> Corpus:
    """Without phrases of fewer solutions, and without those that hold a stop phrase or are part of one."""
    keep = corpus.frequency >= min_solutions
    stopped = [phrase for phrase in dict.fromkeys(" ".join(phrase_words(one)) for one in stop) if phrase]
    if stopped:
        matcher = Matcher(stopped)
        padded = [f" {phrase} " for phrase in stopped]
        keep &= [not matcher.find(phrase) and not any(f" {phrase} " in one for one in padded) for phrase in corpus.phrases]
    chosen = np.flatnonzero(keep)
    return Corpus(tuple(corpus.phrases[i] for i in chosen), tuple(corpus.solutions[i] for i in chosen), corpus.counts[chosen], corpus.size)


def n_clusters(n_grams: int) -> int:
    """k = sqrt(number of n-grams), rounded, at least 1."""
    return max(1, round(math.sqrt(n_grams)))


def cluster(x: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """int64 [n]: k-means of the rows of x (step 2), in mini-batches above 20,000 rows. Raises UserError without scikit-learn."""
    try:
        from sklearn.cluster import KMeans, MiniBatchKMeans
    except ImportError:
        raise UserError(NEED_SKLEARN) from None
    k = min(k, len(np.unique(x, axis=0)))
    made = KMeans(k, n_init=3, random_state=seed) if len(x) <= MANY else MiniBatchKMeans(k, n_init=3, batch_size=4096, random_state=seed)
    return made.fit_predict(x).astype(np.int64)


def cluster_frequency_naive(clusters_of_solutions: Iterable[Iterable[int]], k: int) -> np.ndarray:
    """int64 [k]: CDF(c) = distinct solutions with at least one n-gram of c (step 3). clusters_of_solutions: of every occurrence."""
    out = np.zeros(k, dtype=np.int64)
    for found in clusters_of_solutions:
        out[list(set(found))] += 1
    return out


def highest(cdf: Sequence[int] | np.ndarray, n: int) -> list[int]:
    """The n clusters with the highest CDF, highest first; the lower number first where two are equal (step 4)."""
    return np.argsort(-np.asarray(cdf), kind="stable")[:n].tolist()


def n_kept(clusters: int, keep: float = 0.2) -> int:
    """How many clusters the share `keep` is, at least one."""
    return max(1, round(keep * clusters))


def extract(
    solutions: Iterable[str],
    encoder: Any = "tfidf_svd",
    n: tuple[int, int] = (3, 5),
    keep: float = 0.2,
    clusters: int | None = None,
    stop: Sequence[str] = (),
    min_solutions: int = 1,
    most_repeats: float | None = None,
    seed: int = 0,
) -> Grams:
    """The strategic grams of correct solutions of a task family; to be done once, before training.

    encoder: see `make_encoder`. n: words of a gram. keep: share of clusters, by CDF. clusters: k of k-means (None: sqrt of the n-grams).
    stop: phrases that are no planning ("the final answer is"); grams that hold one or are part of one are left out before clustering.
    min_solutions: grams of fewer solutions are left out before clustering (1: none; a large corpus of free text wants more).
    most_repeats: clusters whose grams occur more often than this in a solution that contains them, on average, are not kept (the paper's
    "rare within a solution" has no published limit; 3 is a mild one).
    Raises UserError for settings out of range, and where nothing is left.
    """
    _check(n, keep, clusters, min_solutions, most_repeats)
    corpus = list_ngrams(solutions, n)
    if not corpus.size:
        raise UserError("extraction of strategic grams: there is no solution; give texts of correct solutions")
    chosen = choose(corpus, min_solutions, stop)
    if not chosen.phrases:
        raise UserError(
            f"extraction of strategic grams: no n-gram of {n[0]} to {n[1]} words is left of {len(corpus.phrases)}; "
            "give more solutions, a lower min_solutions or a shorter stop list"
        )
    k = min(clusters or n_clusters(len(chosen.phrases)), len(chosen.phrases))
    labels = cluster(encode(make_encoder(encoder, seed), chosen.phrases), k, seed)
    made = _clusters(chosen, labels)
    allowed = [one for one in made if most_repeats is None or (one.repeats or 0.0) <= most_repeats]
    if not allowed:
        raise UserError(f"extraction of strategic grams: every cluster repeats more than most_repeats {most_repeats} times; raise it")
    kept = [allowed[place] for place in highest([one.cdf or 0 for one in allowed], n_kept(len(made), keep))]
    name = encoder if isinstance(encoder, str) else getattr(encoder, "__qualname__", type(encoder).__name__)
    about: Mapping[str, Any] = {
        "solutions": corpus.size, "ngrams": len(corpus.phrases), "clustered": len(chosen.phrases), "clusters": len(made),
        "n": list(n), "keep": keep, "encoder": name, "min_solutions": min_solutions, "most_repeats": most_repeats,
        "stop": list(stop), "seed": seed, "cdf": sorted((one.cdf or 0 for one in made), reverse=True),
    }  # fmt: skip
    return Grams(tuple(kept), about)


def _clusters(corpus: Corpus, labels: np.ndarray) -> list[Cluster]:
    """Every cluster with its CDF and repeats; grams by falling frequency."""
    frequency = corpus.frequency
    out = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        if not len(members):
            continue
        members = members[np.argsort(-frequency[members], kind="stable")]
        cdf = len(np.unique(np.concatenate([corpus.solutions[i] for i in members])))
        repeats = float(corpus.counts[members].sum() / frequency[members].sum())
        out.append(Cluster({corpus.phrases[i]: int(frequency[i]) for i in members}, cdf, repeats))
    return out


def _check(n: tuple[int, int], keep: float, clusters: int | None, min_solutions: int, most_repeats: float | None) -> None:
    if not 1 <= n[0] <= n[1]:
        raise UserError(f"extraction of strategic grams: n is {tuple(n)}; it must be (least, most) words with 1 <= least <= most")
    if not 0 < keep <= 1:
        raise UserError(f"extraction of strategic grams: keep is {keep}; it must be a share above 0 and up to 1")
    if clusters is not None and clusters < 1:
        raise UserError(f"extraction of strategic grams: clusters is {clusters}; it must be at least 1")
    if min_solutions < 1:
        raise UserError(f"extraction of strategic grams: min_solutions is {min_solutions}; it must be at least 1")
    if most_repeats is not None and most_repeats < 1:
        raise UserError(f"extraction of strategic grams: most_repeats is {most_repeats}; a gram occurs at least once, so 1 or more")
