"""Forecasts of pass rate against compute: published values, refusals, intervals clustered by prompt, and comparisons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from burnish.rl.forecast import fit as fitting
from burnish.rl.forecast import refusals
from burnish.rl.forecast.compare import compare, joint_draws
from burnish.rl.forecast.control import last_value, power_law
from burnish.rl.forecast.curve import Sigmoid
from burnish.rl.forecast.fit import fit
from burnish.rl.forecast.free import fit_curves
from burnish.rl.forecast.grid import grid_fit, published_grid
from burnish.rl.forecast.later import outcome
from burnish.rl.forecast.points import make_points
from burnish.rl.forecast.show import as_json, plot, sentence, table_row
from burnish.runs.errors import UserError

GOLDEN = Path(__file__).parent / "golden_scalerl"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


FITS = {case["case"]: case for case in golden("fits")}
REFUSALS = {case["case"]: case for case in golden("refusals")}


def world(seed=0, prompts=200, samples=32, points=40, last=4.0, a=0.62, b=1.8, r0=0.2, share=0.35):
    """A run on prompts of which a share can never be solved: [points + 1, prompts] pass rates, the first before RL."""
    generator = np.random.default_rng(seed)
    compute = np.concatenate([[0.0], np.linspace(0.3, last, points)]) * 1000
    curve = Sigmoid(r0, a, 1000.0, b)
    solvable = np.arange(prompts) >= round(share * prompts)
    chance = np.clip(curve(compute)[:, None] * solvable / solvable.mean(), 0, 1)
    items = generator.binomial(samples, chance) / samples
    return make_points(compute, items.mean(1), items, prompts, samples, f"world {seed}")


# -- published values


@pytest.mark.parametrize("case", golden("curve"), ids=lambda case: case["run"])
def test_the_curve_and_its_transforms(case):
    curve = Sigmoid(case["R0"], case["A"], case["C_mid"], case["B"])
    compute = np.array(case["C"])
    np.testing.assert_allclose(curve(compute), case["R"], rtol=1e-10)
    np.testing.assert_allclose(curve.d, case["D"], rtol=1e-10)
    np.testing.assert_allclose(curve.tail(compute), case["tail_form"], rtol=1e-10)
    np.testing.assert_allclose(curve.efficiency(case["R"]), case["F"], rtol=1e-10)  # two subtractions of nearly equal numbers
    np.testing.assert_allclose(curve.efficiency(curve(compute)), compute ** case["B"], rtol=1e-9)
    assert curve(0.0) == case["R0"]
    assert np.isnan(curve.efficiency([case["R0"] - 0.1, case["A"] + 0.1])).all()


@pytest.mark.parametrize("case", FITS.values(), ids=FITS)
def test_the_published_grid_fit(case):
    curve, sse = grid_fit(np.array(case["C"]), np.array(case["R"]), case["R0"], published_grid())
    wanted = case["grid_fit"]
    assert curve.a == wanted["A"]
    assert curve.c_mid == pytest.approx(wanted["C_mid"], rel=1e-12)
    assert curve.b == pytest.approx(wanted["B"], rel=1e-3)
    assert sse == pytest.approx(wanted["sse"], rel=1e-6)
    assert curve(case["forecast_at"]) == pytest.approx(case["forecast"], abs=1e-4)


@pytest.mark.parametrize("case", FITS.values(), ids=FITS)
def test_the_default_fit_finds_the_ceiling(case):
    found = fit(make_points(case["C"], case["R"]), case["R0"])
    assert found.verdict.text == case["verdict"]
    assert found.curve.a == pytest.approx(case["true"]["A"], abs=0.02)
    assert found.curve.a == pytest.approx(case["free_fit_A"], abs=2e-4), "least squares without a grid"
    assert found.a80 == pytest.approx(case["A_interval80"], abs=0.01)
    ahead = found.forecast(case["forecast_at"])
    assert ahead.rate == pytest.approx(case["truth_at"], abs=0.02)
    assert ahead.low - 1e-9 <= ahead.rate <= ahead.high + 1e-9


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_refusals_give_a_reason_and_never_a_number(case):
    grid = published_grid() if "grid_fit_A" in case else None
    found = fit(make_points(case["C"], case["R"], name="mine"), case["R0"], grid=grid)
    if grid is not None:
        assert grid_fit(np.array(case["C"]), np.array(case["R"]), case["R0"], grid)[0].a == case["grid_fit_A"]
        assert "edge" in found.verdict.reason
        assert fit(make_points(case["C"], case["R"]), case["R0"]).curve.a == pytest.approx(case["true"]["A"], abs=0.02)
    else:
        assert found.verdict.text == case["verdict"]
    assert found.verdict.text != "forecastable"
    assert found.curve is None
    with pytest.raises(UserError, match=f"mine: no forecast, {found.verdict.text}"):
        found.forecast(1e5)
    shown = as_json(found, 1e5)
    assert (shown["curve"], shown["forecast"], shown["a80"], shown["a95"], shown["controls"]) == (None,) * 5
    assert set(table_row(found, 1e5)) == {"run", "evaluations", "verdict"}
    assert len(found.band(np.array([1e5]))[0]) == 0


def test_two_runs_with_one_ceiling_are_compared_by_their_efficiency():
    case = golden("comparison")
    fits = [fit(make_points(case["C"], case[key], name=key), case["R0"]) for key in ("R_run1", "R_run2")]
    found = compare(*fits)
    assert found.a == pytest.approx(case["A_runs"], abs=1e-5)
    assert found.a_common == pytest.approx(case["A_common"], abs=1e-5)
    assert found.b == pytest.approx(case["B_refit"], rel=1e-3)
    assert found.c_mid == pytest.approx(case["C_mid_refit"], rel=1e-3)
    assert found.verdict == case["verdict"].replace("run 2", "R_run2")
    assert compare(fits[1], fits[0]).verdict == found.verdict
    assert compare(fits[0], fits[0]).verdict == "same A; no difference in B"
    high, low = case["different_A_example"]["A"]
    runs = [fit(make_points(case["C"], Sigmoid(0.25, a, 3000, 1.6)(case["C"]), name=f"A {a}"), 0.25) for a in (high, low)]
    assert compare(*runs).verdict == case["different_A_example"]["verdict"] + f"; A {high} has the higher ceiling"
    short = REFUSALS["window_ends_at_C_mid"]
    refused = fit(make_points(short["C"], short["R"], name="short"), short["R0"])
    assert compare(fits[0], refused).verdict == "not comparable; short: window too short"


@pytest.mark.parametrize("case", [case for case in REFUSALS.values() if "A_interval80_width" in case], ids=lambda case: case["case"])
def test_a_window_that_is_too_short_leaves_the_ceiling_open(case, monkeypatch):
    widths, width = [], fitting._width
    monkeypatch.setattr(fitting, "_width", lambda *given: widths.append(width(*given)) or widths[-1])
    fit(make_points(case["C"], case["R"]), case["R0"])
    assert case["A_interval80_width"] > refusals.WIDEST
    assert widths[-1] > refusals.WIDEST
    if case["case"] == "window_ends_at_C_mid":  # each end is given to 0.01; the other case's ends are bounds of the grid searched
        assert widths[-1] == pytest.approx(case["A_interval80_width"], abs=0.02)


def test_every_golden_array_is_read():
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == ["comparison", "curve", "fits", "recipe", "refusals"]
    assert set(golden("recipe")) == {"length_penalty", "retirement"}, "read by test_retirement_and_length.py"


# -- intervals


def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(30):
        points = world(seed)
        found = fit(points, until=2500.0, draws=100, seed=seed)
        if found.forecastable:
            ahead, truth = found.forecast(4000.0), 0.2 + 0.42 / (1 + 0.25**1.8)
            inside.append(ahead.low <= truth <= ahead.high)
            assert ahead.prompts_low <= ahead.low
            assert ahead.prompts_high >= ahead.high
    assert len(inside) >= 24, "most such windows are long enough"
    assert np.mean(inside) >= 0.8


def test_other_prompts_widen_the_interval_by_their_spread():
    points = world(3, share=0.5, a=0.5)
    found = fit(points, until=2500.0)
    between = 2 * 1.96 * np.sqrt(points.items[-10:].mean(0).var(ddof=1) / points.items.shape[1])
    assert found.a95[1] - found.a95[0] == pytest.approx(between, rel=0.25), "of which a residual bootstrap knows nothing"
    assert found.a80[1] - found.a80[0] < 0.4 * between


def test_the_order_of_prompts_does_not_matter_to_the_curve():
    points = world(4)
    turned = make_points(points.compute, points.rates, points.items[:, ::-1], points.n_prompts, points.n_samples)
    one, two = fit(points, until=2500.0), fit(turned, until=2500.0)
    assert one.curve.to_dict() == pytest.approx(two.curve.to_dict(), rel=1e-9)
    assert one.a80 == pytest.approx(two.a80, abs=1e-6)
    assert fit(points, until=2500.0).by_prompt.a.tolist() == one.by_prompt.a.tolist(), "the same bits again"


def drawn_prompts(seed, prompts=120, share=0.3):
    """Each prompt's ease, drawn from all prompts: a share can never be solved, the others differ. Mean 1 over all prompts."""
    generator = np.random.default_rng(1000 + seed)
    return generator.beta(6, 3, prompts) * (generator.random(prompts) >= share) / (2 / 3 * (1 - share))


def asked(ease, seed, b=1.8, samples=32, points=40, order=None):
    """A run's evaluations on these prompts, its own samples, the columns in some order."""
    generator = np.random.default_rng(seed)
    compute = np.concatenate([[0.0], np.linspace(0.3, 4.0, points)]) * 1000
    items = generator.binomial(samples, np.clip(Sigmoid(0.1, 0.45, 1000.0, b)(compute)[:, None] * ease, 0, 1)) / samples
    order = np.arange(len(ease)) if order is None else order
    ids = [f"p{place}" for place in order]
    return make_points(compute, items.mean(1), items[:, order], len(ease), samples, f"run {seed}", ids=ids)


def test_intervals_clustered_by_prompt_hold_for_the_prompts_nobody_asked():
    """Each world draws its prompts anew, so what the curve is on all prompts is known: 0.45 at the ceiling."""
    inside, these, width = [], [], []
    for seed in range(24):
        found = fit(asked(drawn_prompts(seed), seed), draws=80, seed=seed)
        if found.forecastable:
            truth = Sigmoid(0.1, 0.45, 1000.0, 1.8)(8000.0)
            ahead = found.forecast(8000.0)
            inside.append((found.a95[0] <= 0.45 <= found.a95[1], ahead.prompts_low <= truth <= ahead.prompts_high))
            these.append(ahead.low <= truth <= ahead.high)
            width.append(found.a80[1] - found.a80[0])
    assert len(inside) >= 20
    assert np.mean(inside, axis=0).min() >= 0.85
    assert np.mean(these) < 0.75, "residuals know nothing of other prompts"
    assert max(width) <= 0.05, "the refusal rule reads the width on these prompts"


def test_two_runs_on_the_same_prompts_are_drawn_together():
    ease = drawn_prompts(1)
    order = np.random.default_rng(5).permutation(len(ease))
    one, two, faster = (fit(points, draws=100) for points in (asked(ease, 1), asked(ease, 2, order=order), asked(ease, 3, b=2.6)))
    same, different = compare(one, two, draws=100), compare(one, faster, draws=100)
    assert same.verdict == "same A; no difference in B"
    assert different.verdict == "same A; run 3 has the larger B"
    for found in (same, different):
        assert found.clustered_by_prompt
        low, high = found.b_difference_these_prompts
        assert found.b_difference[0] <= low <= high <= found.b_difference[1]
    assert "clustered by prompt" in same.basis
    paired = joint_draws(one, two, 100)
    apart = joint_draws(one, two, 100, seed=1)
    spread = np.std(paired[1].a - paired[0].a), np.std(apart[1].b - paired[0].b), np.std(paired[1].b - paired[0].b)
    assert spread[0] < 1e-12, "one ceiling for both in every draw"
    assert spread[2] < spread[1], "what both runs share cancels"
    itself = joint_draws(one, one, 100)
    assert np.abs(itself[1].b - itself[0].b).max() == 0
    turned = compare(two, one, draws=100).b_difference
    assert turned == pytest.approx((-same.b_difference[1], -same.b_difference[0]), abs=0.1)
    other = fit(asked(drawn_prompts(2), 4), draws=20)
    other_ids = make_points(other.points.compute, other.points.rates, other.points.items, 120, 32, "x", ids=[f"q{n}" for n in range(120)])
    assert joint_draws(one, fit(other_ids, draws=20)) is None
    assert joint_draws(one, fit(world(1), draws=20)) is None


def test_shown_forecasts_name_the_clustered_interval_first():
    found = fit(world(3), until=2500.0)
    row, shown = table_row(found, 4000.0), as_json(found, 4000.0)
    names = list(row)
    assert names.index("A [95 %]") < names.index("forecast [95 %]") < names.index("these prompts: A [80 %]")
    assert (row["A [95 %]"]["low"], row["A [95 %]"]["high"]) == found.a95
    assert row["forecast [95 %]"]["low"] == found.forecast(4000.0).prompts_low
    assert list(shown["intervals"]) == ["by_prompt", "these_prompts"]
    assert shown["intervals"]["by_prompt"]["a95"] == found.a95
    assert list(shown["forecast"])[2:] == ["prompts_low", "prompts_high", "low", "high"]
    text = sentence(found, 4000.0)
    assert text.index("clustered by prompt") < text.index("these prompts")
    bare = fit(make_points(found.points.compute, found.points.rates), until=2500.0)
    assert table_row(bare, 4000.0)["A [95 %]"] is None
    assert as_json(bare, 4000.0)["intervals"]["by_prompt"] is None
    assert "clustered" not in sentence(bare, 4000.0)


def test_a_short_window_is_refused_in_every_world():
    verdicts = [fit(world(seed), until=900.0).verdict.text for seed in range(12)]
    assert set(verdicts) <= {"window too short", "no gain to fit", "unstable"}
    assert verdicts.count("window too short") >= 10


def test_weights_know_the_noise_on_these_prompts_only():
    items = np.array([[0.0, 1.0, 0.5, 0.5], [1.0, 1.0, 1.0, 0.5], [0.5, 0.5, 0.5, 0.5]])
    points = make_points([1.0, 2.0, 3.0], items.mean(1), items, 4, 2)
    spread = np.array([0.125, 0.0625, 0.25])
    assert points.variances() == pytest.approx(spread + 0.25 * 0.125)
    harder = np.concatenate([items, np.zeros_like(items)], axis=1)  # prompts that are never solved say nothing of the noise
    more = make_points([1.0, 2.0, 3.0], harder.mean(1), harder, 8, 2).variances()
    assert more / more.mean() == pytest.approx(points.variances() / points.variances().mean())
    bare = make_points([1.0, 2.0, 3.0], [0.5, 0.9, 0.5], None, 4, 2)
    assert bare.variances() == pytest.approx([0.3125, 0.1525, 0.3125])
    assert make_points([1.0, 2.0], [0.5, 1.0]).variances().tolist() == [1.0, 1.0]
    assert make_points([1.0, 2.0], [1.0, 1.0], None, 4, 2).variances().tolist() == [1.0, 1.0]


def test_a_point_with_little_weight_moves_little():
    compute, curve = np.linspace(500, 4000, 30), Sigmoid(0.2, 0.6, 1000.0, 1.8)
    rates = np.array(curve(compute))
    rates[20] += 0.1
    weights = np.ones(30)
    weights[20] = 1e-9
    found = fit_curves(compute, rates[None], np.array([0.2]), weights, 0.3, 1.0)
    assert (found.a[0], found.c_mid[0], found.b[0]) == pytest.approx((0.6, 1000.0, 1.8), rel=1e-5)
    pulled = fit_curves(compute, rates[None], np.array([0.2]), np.ones(30), 0.3, 1.0)
    assert abs(pulled.a[0] - 0.6) > 1e-3
    started = fit_curves(compute, np.array(curve(compute))[None], None, np.ones(30), 0.3, 1.0)
    assert (started.r0[0], started.a[0], started.b[0]) == pytest.approx((0.2, 0.6, 1.8), rel=1e-4), "R0 fitted too"


def test_a_run_that_reached_the_top_is_no_refusal():
    compute = np.linspace(300, 8000, 60)
    rates = np.clip(Sigmoid(0.2, 0.998, 1000.0, 2.5)(compute) + np.random.default_rng(0).normal(0, 0.003, 60), 0, 1)
    found = fit(make_points(compute, rates), 0.2)
    assert found.verdict.text == "forecastable"
    assert found.forecast(16000).rate == pytest.approx(0.995, abs=0.01)
    assert found.forecast(16000).high <= 1.0


# -- controls and the later points


def test_the_controls_recover_what_they_are():
    compute = np.linspace(1000, 8000, 30)
    law = power_law(compute, 0.8 - 20.0 / compute**0.6)
    assert (law.a, law.b) == pytest.approx((0.8, 0.6), rel=1e-2)
    assert law(16000.0) == pytest.approx(0.8 - 20.0 / 16000**0.6, abs=1e-3)
    case = FITS["clean_inside"]
    short = np.array(case["C"]) <= 4000
    bound = power_law(np.array(case["C"])[short], np.array(case["R"])[short])
    assert bound.a == 1.0, "it cannot see the ceiling, and no pass rate exceeds 1"
    assert last_value(np.arange(20.0)) == 18.5


def test_the_outcome_compares_forecast_and_truth_on_the_same_prompts():
    points = world(5, points=60)
    found = fit(points, until=2000.0)
    seen = outcome(found)
    assert seen.truth == pytest.approx(points.rates[-6:].mean())
    assert seen.forecast == pytest.approx(np.mean(found.curve(points.compute[-6:])))
    assert abs(seen.error) <= 0.02 + 2 * seen.se
    spread = np.sqrt(points.items[-6:].mean(0).var(ddof=1) / points.items.shape[1])
    assert 0 < seen.se < 0.7 * spread, "an easy set of prompts lifts both"
    law = power_law(found.window.compute, found.window.rates, found.weights)
    assert seen.power_law == pytest.approx(np.mean(law(points.compute[-6:])))
    assert abs(seen.error) < abs(seen.last_value - seen.truth)
    assert outcome(fit(points, until=700.0)) is None


def test_bad_points_are_named():
    for compute, rates, message in (
        ([1.0, 1.0], [0.1, 0.2], "evaluation 2 is 1, after 1; it must rise"),
        ([1.0, 2.0], [0.1, 1.2], r"pass rate of evaluation 2 is 1.2; it must lie in \[0, 1\]"),
        ([1.0, 2.0], [0.1, float("nan")], "pass rate of evaluation 2 is nan"),
        ([-1.0, 2.0], [0.1, 0.2], "evaluation 1 is -1; it must be a number of at least 0"),
        ([1.0], [0.1, 0.2], "1 values of compute but 2 pass rates"),
    ):
        with pytest.raises(UserError, match=message):
            make_points(compute, rates)
    with pytest.raises(UserError, match="none was made at compute 0, before RL"):
        fit(make_points([1.0, 2.0], [0.1, 0.2]))


def test_the_plot_shows_window_curve_and_later_points():
    points = world(6)
    text = plot([fit(points, until=2000.0), fit(world(7), until=900.0)], at=8000.0)
    assert text.startswith("<svg")
    assert text == plot([fit(points, until=2000.0), fit(world(7), until=900.0)], at=8000.0)
    for words in ("world 6: fitted", "world 6: later", "world 7: window too short"):
        assert words in text
