"""The horizon curve: golden arithmetic, intervals that cover, and the command on a tiny model."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest

from burnish.evaluation.long_horizon_chains import chain_success, curve_of, evals, fitted_sigma, horizon_curve, rows, table
from burnish.models import tiny
from burnish.models import tokenizer as tokenizers
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.records import Item, Limits, Score
from burnish.rl.rewards.verifier import Verifier
from burnish.runs.errors import UserError
from burnish.tasks.eval_result import EvalResult, ItemResult

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "golden_long_horizon_chains" / "horizon.json").read_text())


def result(counts, n_items=200, samples=4):
    """counts: h -> right completions of all; spread over the items."""
    items, horizons = [], {}
    for h, right in counts.items():
        for place in range(n_items):
            share = right // n_items + (place < right % n_items)
            name = f"{h}-{place}"
            horizons[name] = h
            wins = [float(number < share) for number in range(samples)]
            items.append(ItemResult(name, list(wins), list(wins), [False] * samples, [3] * samples, [""] * samples))
    return EvalResult(items, samples, {}), horizons


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: str(case["p"]))
def test_golden_arithmetic(case):
    success = chain_success(case["p"], case["sigma"])
    np.testing.assert_allclose([case["p"] * one for one in case["sigma"]], case["q"], atol=1e-12)
    np.testing.assert_allclose(success, case["chain_success"], atol=1e-12)
    np.testing.assert_allclose(fitted_sigma(success), case["fitted_sigma_from_success"], atol=1e-12)
    np.testing.assert_allclose([case["p"] ** h for h in range(1, len(success) + 1)], case["independence"], atol=1e-12)
    np.testing.assert_allclose([1 / one for one in success], case["samples_for_one_success"], atol=1e-12)


def test_the_curve_of_an_evaluation():
    found, horizons = result({1: 640, 2: 320, 3: 80})
    curve = curve_of(found, horizons, ks=(1, 4))
    np.testing.assert_allclose([depth.accuracy.mean for depth in curve.depths], [0.8, 0.4, 0.1])
    np.testing.assert_allclose([depth.independent.mean for depth in curve.depths], [0.8, 0.64, 0.512])
    np.testing.assert_allclose([depth.sigma.mean for depth in curve.depths], [1.0, 0.625, 0.3125])
    assert [depth.samples for depth in curve.depths] == pytest.approx([1.25, 2.5, 10.0])
    for depth in curve.depths[1:]:
        assert depth.sigma.low < depth.sigma.mean < depth.sigma.high
        assert depth.independent.low < depth.independent.mean < depth.independent.high
    assert curve.depths[1].pass_at[4].mean == 1.0
    assert curve.to_dict() == curve_of(found, horizons, ks=(1, 4)).to_dict()
    assert [row["h"] for row in rows(curve)] == ["1", "2", "3"]
    assert len({len(line) for line in table(rows(curve)).splitlines()}) == 1


def test_intervals_cover_the_truth():
    generator = np.random.default_rng(0)
    p, sigma, covered = 0.8, [1.0, 0.7], 0
    success = chain_success(p, sigma)
    for _ in range(60):
        items, horizons = [], {}
        for h, rate in enumerate(success, start=1):
            for place in range(100):
                name = f"{h}-{place}"
                horizons[name] = h
                wins = [float(one) for one in generator.random(2) < rate]
                items.append(ItemResult(name, wins, wins, [False] * 2, [1] * 2, [""] * 2))
        depth = curve_of(EvalResult(items, 2, {}), horizons).depths[1]
        covered += depth.sigma.low <= 0.7 <= depth.sigma.high
    assert 50 <= covered <= 60


def test_gaps_share_a_sigma_and_zero_success_has_none():
    assert fitted_sigma([0.9, 0.9**4 * 0.5**2], [1, 4]) == pytest.approx([1.0, 0.5 ** (2 / 3)])
    assert math.isnan(fitted_sigma([0.5, 0.0, 0.0])[1])
    found, horizons = result({1: 400, 2: 0})
    curve = curve_of(found, horizons)
    assert curve.depths[1].to_dict()["samples"] is None
    assert curve.depths[1].to_dict()["sigma"]["mean"] is None
    assert rows(curve)[1]["sigma"] == "-"
    with pytest.raises(UserError, match="h = 1"):
        fitted_sigma([0.5], [2])


def world():
    words = tokenizers.characters("0123456789 ?")
    policy = Policy(tiny.make("qwen3", words, hidden=16, layers=1, heads=2, kv_heads=2, max_length=64, seed=1), words)
    items = [
        Item(f"{h}-{n}", policy.encode("1 " * h + str(n)), limits=Limits(max_new_tokens=2 * h), columns={"horizon": h, "answer": str(n)})
        for h in (1, 2, 3)
        for n in range(4)
    ]
    return policy, items


def test_it_samples_what_it_is_told():
    policy, items = world()
    curve = horizon_curve(policy, items, hs=(1, 3), samples=3, ks=(3,))
    assert [(depth.horizon, depth.items) for depth in curve.depths] == [(1, 4), (3, 4)]
    assert {len(item.completions) for item in curve.result.items} == {3}
    assert all(max(item.tokens) <= 2 * int(item.id[0]) for item in curve.result.items)
    always = horizon_curve(policy, items, Verifier(lambda text, columns: Score(1.0, success=1.0), name="yes"), samples=1)
    assert [depth.sigma.mean for depth in always.depths] == [1.0, 1.0, 1.0]
    for settings, message in (
        ({"hs": (2, 3)}, "needs chains of h = 1"),
        ({"hs": (1, 7)}, "no chains of horizon 7"),
        ({"ks": (8,)}, "pass@8"),
    ):
        with pytest.raises(UserError, match=message):
            horizon_curve(policy, items, **settings)
    with pytest.raises(UserError, match="has horizon None"):
        horizon_curve(policy, [Item("x", [1])])


def test_the_command(tmp_path, capsys):
    policy, items = world()
    save_model(policy.model, policy.tokenizer, tmp_path / "model")
    data = tmp_path / "chains.jsonl"
    found = [{"id": item.id, "prompt": policy.decode(item.token_ids), **item.columns} for item in items]
    data.write_text("".join(json.dumps(row) + "\n" for row in found))
    action, parser = evals["horizon"], argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    action.add_arguments(parser)
    words = [str(tmp_path / "model"), str(data), "--samples", "2", "--k", "2", "--tokens", "3"]
    action.run(parser.parse_args([*words, "--json", "--output", str(tmp_path / "curve.json")]))
    said = json.loads(capsys.readouterr().out)
    assert [depth["horizon"] for depth in said["depths"]] == [1, 2, 3]
    assert len(json.loads((tmp_path / "curve.json").read_text())["evaluation"]["results"]) == 12
    action.run(parser.parse_args([*words, "--hs", "1,2"]))
    assert capsys.readouterr().out.split()[:4] == ["h", "items", "accuracy", "p^h"]
