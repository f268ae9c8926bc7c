"""G2RL's arithmetic inside one group: similarity, reference weights, exploration score, shaped reward. float64 throughout.

arXiv 2512.15687, steps 3 to 7 of its method. Vectors may be gradients' features or anything else that can be compared by angle.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Mode = Literal["text", "formula"]
TIES = 1e-6
"""Scores closer than this are equal: min-max would blow up rounding to the whole of [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Exploration:
    """similarity: cosines [m, m] (0 with a vector that is too short, itself included). weights: [m, m], rows sum to 1, diagonal 0.

    nu, nubar: [m] in [0, 1]. tiny: bool [m], vectors that are too short to have a direction; their nu is 0.
    """

    similarity: np.ndarray
    weights: np.ndarray
    nu: np.ndarray
    nubar: np.ndarray
    tiny: np.ndarray


def explore(vectors: Any, reward: Any, eps: float = 1e-6, centre: bool = False) -> Exploration:
    """How much of a direction of its own each of m vectors [m, d] has, against peers weighted by exp(reward).

    reward: [m], raw, about in [-1, 1]. eps: norms below it count as none. centre: take the mean of the vectors with a direction away first.
    A group of one has no peers: its nubar is 0.5.
    """
    vectors, reward = np.asarray(vectors, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    similarity, tiny = cosines(vectors, eps, centre)
    weights = reference_weights(reward)
    nu = np.where(tiny, 0.0, np.maximum(1 - (weights * similarity**2).sum(1), 0.0))
    return Exploration(similarity, weights, nu, min_max(nu), tiny)


def cosines(vectors: np.ndarray, eps: float = 1e-6, centre: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(cosines [m, m], tiny [m])."""
    norms = np.linalg.norm(vectors, axis=1)
    if centre and bool((norms >= eps).any()):
        vectors = np.where((norms >= eps)[:, None], vectors - vectors[norms >= eps].mean(0), 0.0)
        norms = np.linalg.norm(vectors, axis=1)
    tiny = norms < eps
    unit = np.where(tiny[:, None], 0.0, vectors / np.where(tiny, 1.0, norms)[:, None])
    return np.clip(unit @ unit.T, -1.0, 1.0), tiny


def reference_weights(reward: np.ndarray) -> np.ndarray:
    """w_ij = exp(r_j) / sum over k != i of exp(r_k), 0 for j = i; the largest exponent of each row is taken out first. One alone: 0."""
    m = len(reward)
    others = np.where(np.eye(m, dtype=bool), -math.inf, reward[None, :])
    if m < 2:
        return np.zeros((m, m))
    powers = np.exp(others - others.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def min_max(nu: np.ndarray) -> np.ndarray:
    """nu spread over [0, 1]; 0.5 for all where all are equal."""
    low, high = (nu.min(), nu.max()) if len(nu) else (0.0, 0.0)
    return np.full(len(nu), 0.5) if high - low < TIES else (nu - low) / (high - low)


def shaped(reward: np.ndarray, nubar: np.ndarray, lam: float, clip: float, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """(shaped rewards [m], factors [m]).

    mode "text": r (1 + lam (2 nubar - 1)): right and wrong weigh more when novel. "formula": r (1 + lam r nubar), as printed: what is
    novel gets more, a wrong answer too. Clipped to [-clip, clip].
    """
    factor = 1 + lam * (2 * nubar - 1) if mode == "text" else 1 + lam * reward * nubar
    return np.clip(reward * factor, -clip, clip), factor


def explore_naive(vectors: Sequence[Sequence[float]], reward: Sequence[float], eps: float = 1e-6) -> tuple[list[float], list[float]]:
    """(nu, nubar) pair by pair, as the paper writes it: the oracle of `explore`."""
    norms = [math.sqrt(sum(x * x for x in row)) for row in vectors]
    nu = []
    for i, row in enumerate(vectors):
        total, explained = 0.0, 0.0
        for j, other in enumerate(vectors):
            if j == i:
                continue
            dot = sum(a * b for a, b in zip(row, other))
            s = dot / (norms[i] * norms[j]) if min(norms[i], norms[j]) >= eps else 0.0
            total += math.exp(reward[j])
            explained += math.exp(reward[j]) * s * s
        nu.append(max(1 - explained / total, 0.0) if norms[i] >= eps and total else 0.0)
    spread = max(nu) - min(nu)
    return nu, [0.5 if spread < TIES else (one - min(nu)) / spread for one in nu]


def geometry(similarity: np.ndarray, tiny: np.ndarray) -> dict[str, float]:
    """Of one group of at least two: what its updates look like.

    mean_cosine: over the pairs, signed. negative_share: of pairs that point apart. effective_rank: participation ratio of the unit
    vectors, (sum of eigenvalues)^2 / sum of their squares: 1 where all are parallel, m where all are orthogonal; vectors without a
    direction are left out. tiny: how many have none.
    """
    pairs = similarity[np.triu_indices(len(similarity), 1)]
    squares = float((similarity**2).sum())
    return {
        "mean_cosine": float(pairs.mean()) if len(pairs) else 0.0,
        "negative_share": float((pairs < 0).mean()) if len(pairs) else 0.0,
        "effective_rank": float((~tiny).sum()) ** 2 / squares if squares else 0.0,
        "tiny": float(tiny.sum()),
    }
