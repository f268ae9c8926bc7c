"""Comparison of two arms: intervals over seeds, equal compute, and how often A differs from A."""

import math

import numpy as np
import pytest
from scipy import stats

from burnish.reports.compare.arm import Arm, RunCurve, read_arm
from burnish.reports.compare.comparison import compare_arms, seeds_needed
from burnish.reports.compare.page import write_comparison
from burnish.runs.errors import UserError
from burnish.runs.folder import Run


def arm(name, ends, first=0, flops=100.0, rows=None):
    """Straight curves from 0 to `ends` at `flops`."""
    curves = []
    for place, end in enumerate(ends):
        x = {axis: np.array([0.0, flops]) for axis in ("flops", "tokens", "seconds")}
        curves.append(RunCurve(f"{name}{place}", first + place, x, np.array([0.0, end]), rows or f"{name}{place}"))
    return Arm(name, tuple(curves), {"rl": {"steps": 1}})


def test_pairs_are_compared_with_students_t():
    a, b = [0.5, 0.6, 0.9, 0.4], [0.4, 0.55, 0.7, 0.45]
    found = compare_arms(arm("A", a), arm("B", b), "m")
    wanted = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.paired
    assert (found.difference.low, found.difference.high) == pytest.approx((wanted.low, wanted.high))
    assert found.verdict == "no difference found"
    assert "seeds an arm would tell" in found.sentence()


def test_other_seeds_are_compared_with_welchs_t():
    a, b = [0.5, 0.6, 0.9, 0.4], [0.1, 0.2, 0.15]
    found = compare_arms(arm("A", a), arm("B", b, first=10), "m")
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert not found.paired
    assert (found.difference.low, found.difference.high) == pytest.approx((wanted.low, wanted.high))
    assert found.verdict == "A is better"
    assert compare_arms(arm("A", a), arm("B", b, first=10), "loss", lower_is_better=True).verdict == "B is better"


def test_arms_meet_at_the_compute_that_every_run_reached():
    found = compare_arms(arm("A", [1.0, 1.0], flops=100), arm("B", [1.0, 1.0], flops=50), "m")
    assert (found.axis, found.budget) == ("flops", 50)
    assert found.a == (0.5, 0.5)
    assert found.b == (1.0, 1.0)


def test_identical_runs_one_seed_and_a_metric_without_spread():
    same = compare_arms(arm("A", [0.3, 0.7], rows="x"), arm("B", [0.3, 0.7], rows="x"), "m")
    assert (same.verdict, same.difference.mean) == ("identical runs", 0.0)
    assert compare_arms(arm("A", [0.3, 0.7]), arm("B", [0.3, 0.7]), "m").verdict == "no difference found", "equal scores of other runs"
    alone = compare_arms(arm("A", [0.9]), arm("B", [0.1]), "m")
    assert alone.verdict == "one seed"
    assert math.isnan(alone.difference.low)


def test_sentences_of_equal_constant_and_lonely_results():
    equal = compare_arms(arm("A", [0.3, 0.7]), arm("B", [0.3, 0.7]), "m").sentence()
    assert "no difference found; every figure is equal" in equal
    assert "10000" not in equal
    swapped = compare_arms(arm("A", [0.3, 0.7]), arm("B", [0.7, 0.3]), "m").sentence()
    assert "the means are equal" in swapped
    lonely = compare_arms(arm("A", [0.3, 0.7]), arm("B", [0.3], first=5), "m")
    assert lonely.verdict == "one seed"
    assert "with 2 and 1 seeds: no interval" in lonely.sentence()
    assert "with one seed each: no interval" in compare_arms(arm("A", [0.3]), arm("B", [0.3]), "m").sentence()


def test_a_constant_difference_without_spread_is_told_apart_by_enough_seeds():
    three = compare_arms(arm("A", [0.9, 0.8, 1.0]), arm("B", [0.1, 0.0, 0.2]), "m")
    assert (three.verdict, three.seeds_needed) == ("no spread", 6)
    assert "m of A - B: +0.8 over 3 pairs of seeds, with no spread at all" in three.sentence()
    assert "no difference" not in three.sentence()
    assert compare_arms(arm("A", [0.9] * 5), arm("B", [0.1] * 5), "m").verdict == "no spread"
    assert compare_arms(arm("A", [0.9] * 6), arm("B", [0.1] * 6), "m").verdict == "A is better"
    assert compare_arms(arm("A", [0.9] * 6), arm("B", [0.1] * 6), "loss", lower_is_better=True).verdict == "B is better"
    loose = compare_arms(arm("A", [0.9] * 3), arm("B", [0.1] * 3, first=9), "m")
    assert (loose.verdict, loose.seeds_needed) == ("no spread", 4)
    assert compare_arms(arm("A", [0.9] * 4), arm("B", [0.1] * 4, first=9), "m").verdict == "A is better"


def test_a_differs_from_a_no_more_often_than_the_level_says():
    rng = np.random.default_rng(0)
    for first in (0, 100):
        called = 0
        for _ in range(400):
            draws = 0.5 + 0.05 * rng.standard_normal((2, 5))
            called += compare_arms(arm("A", draws[0]), arm("B", draws[1], first=first), "m").verdict != "no difference found"
        assert 0.02 < called / 400 < 0.085


@pytest.mark.parametrize("paired", [True, False])
def test_the_seeds_asked_for_are_enough_and_not_too_many(paired):
    n = seeds_needed(0.05, 0.03, 0.95, paired)
    freedom, factor = ((lambda k: k - 1), 1) if paired else ((lambda k: 2 * k - 2), 2)

    def half(k):
        return stats.t.ppf(0.975, freedom(k)) * 0.05 * math.sqrt(factor / k)

    assert half(n) <= 0.03 < half(n - 1)
    assert seeds_needed(0.05, 0.0) is None


def run_folder(path, seed, value, **more):
    run = Run.create(path, {"seed": seed, "rl": {"steps": 2}})
    run.log(0, {"eval/success": 0.1})
    run.log(1, {"compute/tokens": 10.0, "time/step": 2.0, **more})
    run.log(2, {"eval/success": value, "compute/tokens": 20.0, "time/step": 3.0, **more})
    return path


def test_runs_are_read_and_a_page_is_written(tmp_path):
    arms = tuple(
        read_arm(name, [run_folder(tmp_path / f"{name}{seed}", seed, value) for seed, value in enumerate(values)], "eval/success")
        for name, values in (("A", (0.5, 0.7)), ("B", (0.4, 0.3)))
    )
    assert arms[0].curves[1].x["seconds"].tolist() == [0.0, 5.0]
    assert arms[0].curves[1].y.tolist() == [0.1, 0.7]
    found = compare_arms(*arms, "eval/success")
    assert found.axis == "tokens", "these runs count no FLOPs"
    page = write_comparison(tmp_path / "out", found, arms)
    assert "<svg" in page.read_text()
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "comparison.html", "comparison.json", "curves-seconds.svg", "curves-tokens.svg",
    ]  # fmt: skip


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    one = run_folder(tmp_path / "one", 0, 0.5)
    two = run_folder(tmp_path / "two", 0, 0.5)
    with pytest.raises(UserError, match="one seed"):
        read_arm("A", [one, two], "eval/success")
    with pytest.raises(UserError, match="eval/success"):
        read_arm("A", [one], "eval/sucess")
    with pytest.raises(UserError, match="level"):
        compare_arms(arm("A", [1.0]), arm("B", [1.0]), "m", level=95)
