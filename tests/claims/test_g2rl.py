"""The claim of G2RL: its graph, the smoke size of every arm, and verdicts that can go each way."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from burnish.claims.g2rl import claims, settings, training, world
from burnish.claims.g2rl import outcome as judged
from burnish.claims.harness.claim import shared_of

CLAIM = claims[0]


def test_every_prompt_has_tens_of_right_answers_and_pairs_are_held_out():
    train, test = world.split("train"), world.split("test")
    assert (len(train), len(test)) == (346, 86)
    assert not {one.prompt for one in train} & {one.prompt for one in test}
    for pair in (*train[:20], *test[:20]):
        assert world.FEWEST <= len(pair.answers) <= world.MOST
        for path in pair.answers:
            assert (path[0], path[-1]) == (pair.start, pair.goal)
            assert len(path) == len(set(path)) == world.LENGTH
            assert all(b in world.EDGES[a] for a, b in itertools.pairwise(path))
    columns = world.rows(test[:1], "x")[0]
    assert world.check(test[0].answers[0], columns)
    assert not world.check(test[0].answers[0][::-1], columns)
    assert not world.check("", columns)


def test_all_paths_are_found(monkeypatch):
    ways = [
        "a" + "".join(rest)
        for rest in itertools.permutations(world.NODES, 3)
        if "a" not in rest and all(b in world.EDGES[a] for a, b in itertools.pairwise(("a", *rest)))
    ]
    monkeypatch.setattr(world, "LENGTH", 4)
    for goal in {way[-1] for way in ways}:
        assert world.paths("a", goal) == sorted(way for way in ways if way[-1] == goal)


def test_demonstrations_slip_and_draws_go_round():
    right = {pair.prompt: pair.answers for pair in world.split("train")}
    taught = world.demonstrations(400, 0, 0.0)
    assert all(row["completion"] in right[row["prompt"]] for row in taught)
    share = np.mean([row["completion"] in right[row["prompt"]] for row in world.demonstrations(400, 0, 0.2)])
    assert 0.3 < share < 0.75
    drawn = world.drawn(2 * len(right), 3)
    assert [len({one.prompt for one in drawn[: len(right)]}), len({one.prompt for one in drawn[len(right) :]})] == [len(right)] * 2
    assert world.drawn(50, 3) == drawn[:50]
    assert world.drawn(50, 4) != drawn[:50]


def test_measures_of_a_pair_by_hand():
    pair = world.Pair("a", "b", ("acb", "adb"))
    texts = ["acb"] * 8 + ["adb"] * 4 + ["ab"] * 4
    found = training._of_pair(pair, texts, np.eye(16))
    assert (found["pass@1"], found["pass@16"], found["distinct"]) == (0.75, 1.0, 2.0)
    assert (found["mean_cosine"], found["negative_share"]) == (0.0, 0.0)
    assert found["effective_rank"] == pytest.approx(16)
    twice = training._of_pair(pair, [*texts, *["ab"] * 16], np.ones((32, 3)))
    assert (twice["pass@1"], twice["distinct"], twice["mean_cosine"]) == (0.375, 1.0, pytest.approx(1.0))
    assert twice["pass@16"] == pytest.approx(1 - np.prod([(20 - n) / (32 - n) for n in range(16)]))


def test_smoke_sizes_run_and_give_json(tmp_path):
    CLAIM.shared(1, tmp_path / "shared", "smoke")
    rows = []
    assert CLAIM.arms("smoke") == tuple(settings.first_of_grid(name) for name in settings.JUDGED)
    for arm in map(settings.first_of_grid, settings.ARMS):
        folder = tmp_path / arm.name
        assert shared_of(folder) == tmp_path / "shared"
        made = CLAIM.run(arm, 1, folder, "smoke")
        rows.append({"arm": arm.name, "seed": 1, "settings": dict(arm.settings), "result": json.loads(json.dumps(made, allow_nan=False))})
    main = {row["arm"]: row for row in rows}
    assert list(main) == list(settings.ARMS)
    assert main["entropy"]["settings"]["eta"] > 0 == main["grpo"]["settings"]["eta"]
    assert len({json.dumps(row["result"]["base"]) for row in rows}) == 1
    found = CLAIM.verdict(rows, "smoke")
    assert found.status == "inconclusive", "one seed and four pairs say nothing"
    assert [row["arm"] for row in CLAIM.table(rows)] == ["before", *settings.ARMS]
    assert CLAIM.plot(rows, found).startswith("<svg")


def test_full_size_has_every_arm_one_grid_and_five_seeds():
    full = CLAIM.arms("full")
    grids = [arm for arm in full if arm.name.startswith("grid/")]
    assert {arm.seeds for arm in grids} == {(settings.GRID_SEED,)}
    assert settings.GRID_SEED not in CLAIM.seeds("full")
    assert len(CLAIM.seeds("full")) == 5
    for name in settings.ARMS:
        mine = next(arm for arm in full if arm.name == name)
        rates = {next(one for one in grids if one.name == other).settings["rate"] for other in mine.follows}
        assert rates == set(settings.RATES)
    assert len(full) - len(grids) == 6


def test_the_grid_chooses_by_both_pass_rates():
    def tried(rate, eta, one, sixteen):
        return {"settings": {"rate": rate, "eta": eta}, "result": {"final": {"pass@1": one, "pass@16": sixteen}}}

    arm = CLAIM.arms("full")[-1]
    assert CLAIM.settle(arm, [tried(1e-3, 0.0, 0.8, 0.9), tried(5e-4, 0.0, 0.9, 0.9)]) == {"rate": 5e-4, "eta": 0.0}
    assert CLAIM.settle(arm, [tried(1e-3, 0.01, 0.8, 0.95), tried(5e-4, 0.03, 0.9, 0.8)]) == {"rate": 1e-3, "eta": 0.01}
    assert CLAIM.settle(arm, [tried(1e-3, 0.0, 0.9, 0.9), tried(5e-4, 0.0, 0.9, 0.9)]) == {"rate": 5e-4, "eta": 0.0}


def results_of(text, formula, random=(0.6, 0.94, 2.6), grpo=(0.6, 0.94, 2.6), cosine=(0.2, 0.3), noise=0.01):
    """Made-up results: means of (pass@1, pass@16, distinct) by arm; five seeds, forty pairs."""
    generator, out = np.random.default_rng(0), []
    means = {"grpo": grpo, "g2rl-text": text, "g2rl-formula": formula, "random-nubar": random}
    for arm, three in means.items():
        for seed in range(1, 6):
            pairs = {
                name: (mean + noise * generator.normal(size=40)).tolist() for name, mean in zip(("pass@1", "pass@16", "distinct"), three)
            }
            pairs["mean_cosine"] = [cosine[0] if arm == "g2rl-text" else cosine[1]] * 40
            final = {name: float(np.mean(values)) for name, values in pairs.items()}
            result = {"final": final, "base": {"pass@1": 0.3}, "by_pair": pairs}
            out.append({"arm": arm, "seed": seed, "settings": {"rate": 1e-3, "eta": 0.0}, "result": result})
    return out


GOOD, SAME = (0.6, 0.97, 4.0), (0.6, 0.94, 2.6)


def test_verdicts_on_made_up_results():
    assert judged.verdict(results_of(GOOD, SAME), "full").status == "reproduced"
    for worse in ((0.5, 0.97, 4.0), (0.6, 0.97, 2.6), (0.6, 0.94, 4.0)):
        assert judged.verdict(results_of(worse, SAME), "full").status == "inconclusive"
    assert judged.verdict(results_of(GOOD, SAME, cosine=(0.4, 0.3)), "full").status == "inconclusive"
    control = judged.verdict(results_of(GOOD, SAME, random=GOOD), "full")
    assert control.status == "not reproduced", "random nubar does as well: it is not the geometry"
    assert "random-nubar" in control.reason
    nothing = judged.verdict(results_of(SAME, SAME), "full")
    assert nothing.status == "not reproduced"
    assert nothing.figures["interval_high"] < nothing.figures["effect"] == 0.02
    assert nothing.figures["headroom"] == pytest.approx(0.06, abs=0.01)
    assert judged.verdict(results_of(SAME, GOOD, cosine=(0.3, 0.3)), "full").status == "not reproduced", "its cosine is not lower"
    assert judged.verdict(results_of(SAME, SAME, noise=0.5), "full").status == "inconclusive", "the interval holds the effect"
    poor = results_of(SAME, SAME, grpo=(0.35, 0.94, 2.6))
    assert judged.verdict(poor, "full").status == "inconclusive", "the baseline did not learn"
    full = results_of((0.6, 0.999, 2.6), (0.6, 0.999, 2.6), random=(0.6, 0.999, 2.6), grpo=(0.6, 0.999, 2.6))
    assert judged.verdict(full, "full").status == "inconclusive", "no headroom"


def test_the_larger_error_counts():
    rows = results_of(SAME, SAME, noise=0.0)
    for row in rows:
        if row["arm"] == "g2rl-text":
            row["result"]["by_pair"]["distinct"] = [2.6 + 0.1 * row["seed"]] * 40
    found = judged.difference(rows, "g2rl-text", "grpo", "distinct")
    assert (found.mean, found.se) == (pytest.approx(0.3), pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) * 0.1 / 5**0.5))
