"""Intervals for small experiments: Wilson, bootstrap, cluster-robust means, paired differences, pass@k.

All intervals are 95 % by default.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy import special
from scipy import stats as scipy_stats


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its interval; NaN where there is no data. n: values; clusters: independent clusters behind them."""

    mean: float
    low: float
    high: float
    n: int = 0
    clusters: int = 0

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(k: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share k of n (Wilson 1927). Raises ValueError where k lies outside [0, n]."""
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"wilson: k={k} must lie between 0 and n={n}")
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    z = float(special.ndtri(0.5 + confidence / 2))
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, middle - half)
    high = 1.0 if k == n else min(1.0, middle + half)
    return Interval(share, low, high, n, n)


def _grouped(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """values [n], and for each cluster (in order of appearance) its sum [G] and size [G]."""
    x = np.asarray(values, dtype=np.float64).reshape(-1)
    if clusters is None:
        return x, x.copy(), np.ones(len(x))
    if len(clusters) != len(x):
        raise ValueError(f"{len(x)} values but {len(clusters)} cluster names")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(name, len(places)) for name in clusters], dtype=np.int64)
    return x, np.bincount(index, weights=x, minlength=len(places)), np.bincount(index, minlength=len(places)).astype(np.float64)


def clustered_mean(values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, confidence: float = 0.95) -> Interval:
    """The mean with a cluster-robust interval.

    se^2 = G/(G-1) * sum over clusters of (sum of residuals)^2 / n^2; t with G-1 degrees of freedom.

    Without clusters (or clusters of one) this is the ordinary t interval. One cluster only: the interval is NaN (nothing can be said).
    """
    x, sums, sizes = _grouped(values, clusters)
    n, g = len(x), len(sums)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(x.mean())
    if g < 2:
        return Interval(mean, math.nan, math.nan, n, g)
    residuals = sums - sizes * mean
    error = math.sqrt(g / (g - 1) * float(residuals @ residuals)) / n
    half = float(scipy_stats.t.ppf(0.5 + confidence / 2, g - 1)) * error
    return Interval(mean, mean - half, mean + half, n, g)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, seed: int = 0, n: int = 2000, confidence: float = 0.95
) -> Interval:
    """The mean with a percentile bootstrap interval; whole clusters are drawn with replacement. Deterministic in `seed`; n: resamples."""
    x, sums, sizes = _grouped(values, clusters)
    g = len(sums)
    if g == 0:
        return Interval(math.nan, math.nan, math.nan)
    generator = np.random.default_rng(seed)
    means = np.empty(n)
    rows = max(1, 2_000_000 // g)  # bounds the memory of one block of draws
    for start in range(0, n, rows):
        drawn = generator.integers(0, g, size=(min(rows, n - start), g))
        means[start : start + len(drawn)] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(x.mean()), float(low), float(high), len(x), g)


def paired_difference(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> Interval:
    """The mean of b - a, pair by pair (same items in the same order), with a cluster-robust t interval.

    Raises ValueError where the lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"paired_difference: {len(a)} values against {len(b)}; pairs are needed")
    return clustered_mean(np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64), clusters, confidence)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate of the chance that one of k samples is right, from c right ones of n.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1).

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass_at_k: needs 0 <= c <= n and 1 <= k <= n; got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)
