"""The learning table: its arms, how the grid's choice is settled, and what its verdict says of made-up results."""

from __future__ import annotations

import pytest

from burnish.claims.harness.claim import Arm
from burnish.claims.harness.verdicts import by_rule
from burnish.claims.rl_catalogue import claims
from burnish.claims.rl_catalogue.learn import summary
from burnish.claims.rl_catalogue.settings import CONTROL, PRESETS, common, rl_settings
from burnish.claims.rl_catalogue.verdict import arms, plot, seeds, settle, table, verdict
from burnish.rl.objectives import presets


def test_every_preset_has_the_same_grid_and_the_same_completions_for_each_update():
    found = arms("full")
    names = [arm.name for arm in found]
    assert set(PRESETS) <= set(presets.names())
    assert len(PRESETS) == 13
    for preset in PRESETS:
        (arm,) = [arm for arm in found if arm.name == preset]
        grid = [other for other in found if other.name in arm.follows]
        assert [other.settings["rate"] for other in grid] == [1e-4, 3e-4, 1e-3]
        assert all(set(other.seeds).isdisjoint(seeds("full")) for other in grid), "the grid's seed is not used later"
        assert all({**other.settings, "rate": 0} == {**arm.settings, "rate": 0} for other in grid)
        own = rl_settings(preset, "full")
        assert own["group_size"] * own["prompts_per_step"] / own["minibatches"] == common("full")["completions"] == 128
    assert names[-1] == CONTROL
    assert len(names) == len(set(names)) == 13 * 3 + 13 + 1


def test_the_grid_chooses_the_highest_final_rate_and_the_lower_rate_in_a_tie():
    def results(*finals):
        return [{"settings": {"rate": rate}, "result": {"final": {"mean": value}}} for rate, value in zip((1e-4, 3e-4, 1e-3), finals)]

    assert settle(Arm("grpo"), results(0.5, 0.7, 0.6)) == {"rate": 3e-4}
    assert settle(Arm("grpo"), results(0.5, 0.7, 0.7)) == {"rate": 3e-4}
    assert settle(Arm("grpo"), results(0.7, 0.7, 0.7)) == {"rate": 1e-4}


def run(arm, seed, curve, rate=3e-4):
    rows = [{"eval/success": curve[0], "eval/success_low": curve[0] - 0.05, "eval/success_high": curve[0] + 0.05}]
    rows += [
        {
            "rollouts/drawn": 100.0,
            "completions/mean_length": 5.0,
            "learner/updates": 2.0,
            "eval/success": value,
            "eval/success_low": value - 0.05,
            "eval/success_high": value + 0.05,
        }
        for value in curve[1:]
    ]
    last = curve[-1]
    return {"arm": arm, "seed": seed, "settings": {"rate": rate}, "result": summary(rows, [last, last - 0.03, last + 0.03], len(curve) - 1)}


def results(**changed):
    curves = {"grpo": (0.2, 0.5, 0.65), "ppo": (0.2, 0.6, 0.61), CONTROL: (0.2, 0.25, 0.2)} | changed
    return [run(name, seed, curve) for name, curve in curves.items() for seed in (1, 2, 3)]


def test_tokens_count_to_the_first_evaluation_above_the_target():
    found = run("grpo", 1, (0.2, 0.6, 0.61))["result"]
    assert found["reached"] == 1000, "0.6 itself is not above 0.6"
    assert (found["tokens"], found["completions"], found["updates"]) == (1000, 200, 4)
    assert found["base"] == {"mean": 0.2, "low": 0.15, "high": 0.25}
    assert found["final"]["mean"] == 0.61
    assert run("grpo", 1, (0.2, 0.4, 0.5))["result"]["reached"] is None


def test_verdicts():
    found = verdict(results(), "full")
    assert found.status == "reproduced"
    assert found.figures["presets that learned"] == 2
    slow = by_rule(verdict(results(ppo=(0.2, 0.3, 0.4)), "full"))
    assert slow.status == "not reproduced"
    assert slow.reason.startswith("1 of 2 presets")
    assert slow.reason.endswith("not ppo")
    assert (slow.figures["interval_high"], slow.figures["headroom"]) == (pytest.approx(0.43), pytest.approx(0.05))
    near = by_rule(verdict(results(ppo=(0.2, 0.5, 0.59)), "full"))
    assert near.status == "inconclusive", "an interval that holds the target excludes nothing"
    weak = by_rule(verdict(results(ppo=(0.2, 0.3, 0.4), grpo=(0.2, 0.3, 0.5)), "full"))
    assert weak.status == "inconclusive", "no preset got there: the task may be too hard"
    leak = verdict(results(**{CONTROL: (0.2, 0.5, 0.7)}), "full")
    assert leak.status == "inconclusive"
    assert "random reward" in leak.reason


def test_the_table_and_the_plot_hold_every_preset():
    rows = table(results(ppo=(0.2, 0.3, 0.4)))
    assert [row["preset"] for row in rows] == ["grpo", "ppo", CONTROL]
    assert rows[0]["above 0.6"] == "3 of 3"
    assert rows[1]["tokens needed"] == "–, –, –"
    drawn = plot(results(), verdict(results(), "full"))
    assert drawn.startswith("<svg")
    assert all(name in drawn for name in ("grpo", "ppo", CONTROL))


def test_the_claim_is_whole():
    (claim,) = claims
    assert claim.id == "rl-catalogue.1"
    assert claim.slug == "rl-catalogue"
    assert claim.common("smoke") != claim.common("full")
