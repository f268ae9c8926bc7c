from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from burnish.runs import stats


def test_wilson_closed_form() -> None:
    known = scipy_stats.binomtest(7, 20).proportion_ci(method="wilson")
    found = stats.wilson(7, 20)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)
    z = scipy_stats.norm.ppf(0.975)
    assert stats.wilson(0, 10).low == 0.0
    assert stats.wilson(0, 10).high == pytest.approx(z * z / (10 + z * z))
    assert stats.wilson(10, 10).high == 1.0
    assert math.isnan(stats.wilson(0, 0).mean)
    with pytest.raises(ValueError, match="k=3"):
        stats.wilson(3, 2)


def test_clustered_mean_by_hand() -> None:
    # residuals of (1, 0), (1, 1), (0, 0) about 0.5 summed by cluster: 0, 1, -1; se^2 = 3/2 * 2 / 36
    found = stats.clustered_mean([1, 0, 1, 1, 0, 0], ["a", "a", "b", "b", "c", "c"])
    half = scipy_stats.t.ppf(0.975, 2) * math.sqrt(3 / 36)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))
    assert (found.n, found.clusters) == (6, 3)


def test_clusters_of_one_are_the_t_interval_and_copies_add_nothing() -> None:
    x = np.random.default_rng(0).normal(size=12)
    known = scipy_stats.ttest_1samp(x, 0).confidence_interval()
    found = stats.clustered_mean(x)
    assert (found.low, found.high) == pytest.approx((known.low, known.high))
    copied = stats.clustered_mean(np.repeat(x, 5), np.repeat(np.arange(12), 5).tolist())
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high))
    assert math.isnan(stats.clustered_mean([1.0, 0.0], ["a", "a"]).low)
    assert math.isnan(stats.clustered_mean([]).mean)


def test_bootstrap_is_deterministic_and_clustered() -> None:
    x = np.random.default_rng(1).normal(size=400)
    found = stats.bootstrap_mean(x, seed=3)
    assert found == stats.bootstrap_mean(x, seed=3)
    assert found != stats.bootstrap_mean(x, seed=4)
    error = x.std() / 20
    assert (found.low, found.high) == pytest.approx((x.mean() - 1.96 * error, x.mean() + 1.96 * error), abs=0.02)
    copied = stats.bootstrap_mean(np.repeat(x, 4), np.repeat(np.arange(400), 4).tolist(), seed=3)
    assert (copied.low, copied.high) == pytest.approx((found.low, found.high))
    assert stats.bootstrap_mean([2.0]).high == 2.0


def test_paired_difference_cancels_the_item() -> None:
    generator = np.random.default_rng(2)
    item = generator.normal(size=50) * 10
    found = stats.paired_difference(item, item + 0.5)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="pairs"):
        stats.paired_difference([1], [1, 2])


def test_pass_at_k_against_enumeration() -> None:
    for n in range(1, 8):
        for c in range(n + 1):
            for k in range(1, n + 1):
                outcomes = [1] * c + [0] * (n - c)
                share = np.mean([max(chosen) for chosen in itertools.combinations(outcomes, k)])
                assert stats.pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)
    assert 0 < stats.pass_at_k(10_000, 1, 5_000) < 1
    with pytest.raises(ValueError, match="pass_at_k"):
        stats.pass_at_k(3, 1, 4)
