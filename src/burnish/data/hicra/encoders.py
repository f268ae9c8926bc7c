"""Sentence encoders for n-grams: the built-in one, which needs no weights, and the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from burnish.runs import parts
from burnish.runs.errors import UserError, did_you_mean

Encoder = Callable[[Sequence[str]], Any]
"""phrases -> array [phrases, dimensions]"""

NEED_SKLEARN = "extraction of strategic grams needs scikit-learn; install burnish[text]"


class TfidfSvd:
    """Character n-grams inside word borders, TF-IDF, truncated SVD, rows of length 1: paraphrases that share words lie close together.

    n: lengths of the character n-grams. dimensions: of the result, at most (fewer where there is less to tell apart). seed: of the SVD.
    """

    def __init__(self, n: tuple[int, int] = (2, 4), dimensions: int = 64, seed: int = 0):
        self.n, self.dimensions, self.seed = tuple(n), dimensions, seed

    def __call__(self, phrases: Sequence[str]) -> np.ndarray:
        """float64 [phrases, dimensions]. Raises UserError where scikit-learn is missing."""
        try:
            from sklearn.decomposition import TruncatedSVD
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError:
            raise UserError(NEED_SKLEARN) from None
        found = TfidfVectorizer(analyzer="char_wb", ngram_range=self.n, sublinear_tf=True).fit_transform(phrases)
        size = min(self.dimensions, found.shape[1] - 1, found.shape[0] - 1)
        if size < 2:
            return unit_rows(np.asarray(found.todense()))
        return unit_rows(TruncatedSVD(n_components=size, random_state=self.seed).fit_transform(found))


BUILT_IN = {"tfidf_svd": TfidfSvd}


def make_encoder(spec: Any, seed: int = 0) -> Encoder:
    """An encoder from "tfidf_svd", "file.py:name", "package.module.name", a function, or an object with `encode(list of phrases)`.

    A class is built without arguments. Raises UserError.
    """
    made = spec
    if isinstance(spec, str):
        if spec.replace("-", "_") in BUILT_IN:
            return BUILT_IN[spec.replace("-", "_")](seed=seed)
        if "." not in spec and ":" not in spec:
            raise UserError(f"unknown encoder {spec!r}; {did_you_mean(spec, BUILT_IN)} (your own: file.py:name)")
        made = parts.find("burnish.data.hicra", spec)
    if inspect.isclass(made):
        made = made()
    made = getattr(made, "encode", made)
    if not callable(made):
        raise UserError(f"encoder {spec!r} is neither a function of a list of phrases nor an object with `encode`")
    return made


def encode(encoder: Encoder, phrases: Sequence[str]) -> np.ndarray:
    """float64 [phrases, dimensions]. Raises UserError where the encoder returned something else."""
    found = np.asarray(encoder(list(phrases)), dtype=np.float64)
    if found.ndim != 2 or len(found) != len(phrases) or not np.isfinite(found).all():
        raise UserError(f"the encoder returned an array of shape {found.shape} for {len(phrases)} phrases; wanted one finite row for each")
    return found


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1.0)
