"""The claims of ScaleRL: the task whose ceiling is known, the smoke sizes, and verdicts that can go either way."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from burnish.claims.scalerl import ablation, claims, head, leave_one_out, saturation
from burnish.claims.scalerl import chains as world
from burnish.recipes.config import RLConfig
from burnish.rl.forecast.curve import Sigmoid
from burnish.rl.objectives import presets
from burnish.runs.config import build
from burnish.runs.errors import UserError


def result(size=256, a=0.7, c_mid=0.25, seed=0, drift=0.0):
    """A made-up run of 60 evaluations: prompts that can be solved, and a share that cannot."""
    generator = np.random.default_rng(seed)
    compute = np.concatenate([[0.0], np.linspace(1 / 60, 1, 60)])
    rates = np.array(Sigmoid(0.15, a, c_mid, 2.0)(compute)) + drift * np.maximum(0, compute - 0.5)
    solvable = np.arange(size) < round(0.7 * size)
    successes = generator.binomial(16, np.clip(rates[:, None] * solvable / 0.7, 0, 1))
    found = {"compute": (compute * 1e9).tolist(), "successes": successes.tolist(), "samples": 16, "ceiling": 0.7, "parameters": 1}
    return found | saturation.judge(found)


def rows(*results):
    return [{"arm": "scalerl", "seed": seed, "settings": {}, "result": one} for seed, one in enumerate(results)]


def test_chains_are_walked_by_hand_and_the_share_is_random():
    assert world._walk(0, [1, 2, -3]) == "bda"
    assert world._walk(60, [1, -2]) == "a7"
    problems = world.chains(240, 3, "train", share=0.3)
    assert [len(problem.states) for problem in problems[:9]] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert {len(problem.prompt) for problem in problems} == {10}
    assert sum(problem.random for problem in problems) == 72
    for horizon in range(1, 9):
        assert sum(problem.random for problem in problems if len(problem.states) == horizon) == 9
    assert all(problem.answer == problem.states[-1] for problem in problems if not problem.random)
    assert world.ceiling(problems) == pytest.approx(0.7 + 0.3 / 61, abs=0.03)
    assert world.chains(240, 3, "train", share=0.3) == problems


def test_held_out_chains_are_never_trained_on():
    test = [problem.prompt for problem in world.chains(256, 0, "test")]
    train = {problem.prompt for problem in world.chains(4000, 1, "train")}
    assert len(set(test)) == 256
    assert not train & set(test)
    with pytest.raises(UserError, match="ask for fewer"):
        world.chains(400, 0, "test", longest=1)


def test_only_the_last_state_counts():
    assert world.check("abc", {"answer": "c"})
    assert not world.check("abcd", {"answer": "c"})
    assert not world.check("", {"answer": "c"})


def test_a_careless_teacher_goes_on_from_his_slips():
    right = world.chains(800, 0, "train")
    assert world.careless(right, 0.0, 0) == right
    taught = world.careless(right, 0.3, 0)
    good, steps = 0, 0
    for one in taught:
        place = world.STATES.index(one.prompt[0])
        for move, state in zip(one.prompt[1:], one.states):
            good += (place + world.OPERATIONS[move]) % 61 == world.STATES.index(state)
            steps += 1
            place = world.STATES.index(state)
    assert good / steps == pytest.approx(0.7 + 0.3 / 61, abs=0.03)


def test_smoke_sizes_run_and_give_json(tmp_path):
    for claim in (saturation.CLAIM, head.CLAIM):
        found = []
        for arm in claim.arms("smoke"):
            made = claim.run(arm, 0, tmp_path / claim.id / arm.name, "smoke")
            found.append({"arm": arm.name, "seed": 0, "settings": dict(arm.settings), "result": json.loads(json.dumps(made))})
        verdict = claim.verdict(found, "smoke")
        assert verdict.reason
        assert claim.plot(found, verdict).startswith("<svg")
    assert len(claims[0].arms("full")[0].settings) == len(claims[0].arms("smoke")[0].settings)
    full = claims[0].arms("full")[0].settings
    assert full["rl_steps"] // full["eval_every"] >= 60
    assert (full["prompts"], full["samples"], len(claims[0].seeds("full"))) == (256, 16, 3)


def test_a_saturating_run_passes_and_other_runs_do_not():
    good = [result(seed=seed) for seed in range(3)]
    assert all(all(saturation.passes(one).values()) for one in good)
    assert saturation.verdict(rows(*good), "full").status == "reproduced"
    assert good[0]["short_window"] == "window too short"
    climbing = [result(seed=seed, a=0.5, drift=0.4) for seed in range(3)]
    late = saturation.verdict(rows(*climbing), "full")
    assert late.status == "not reproduced"
    assert late.figures["interval_low"] > late.figures["effect"]
    early = [result(c_mid=0.9, seed=seed) for seed in range(3)]
    assert [one["outcome"] for one in early] == [None] * 3
    assert [one["half"]["verdict"] for one in early] == ["window too short"] * 3
    assert saturation.verdict(rows(*early), "full").status == "inconclusive"
    low = [one | {"ceiling": 0.95} for one in good]
    assert saturation.verdict(rows(*low), "full").status == "inconclusive"
    assert saturation.verdict(rows(good[0], good[1], early[0]), "full").status == "reproduced"


def test_the_head_in_two_orders():
    states, weights = torch.randn(5, 16, dtype=torch.float64), torch.randn(7, 16, dtype=torch.float64)
    torch.testing.assert_close(head.in_parts(states, weights, 4), states @ weights.T)
    found = []
    for name, difference, far in (("bf16", 0.02, 0.01), ("fp32", 1e-6, 0.0)):
        one = {"mean_difference": difference, "mean_difference_reordered": 0.0, "far": far, "far_confident": far}
        found.append({"arm": name, "seed": 0, "result": {"scale 3": one}})
    assert head.verdict(found, "full").status == "reproduced"
    found[1]["result"]["scale 3"] |= {"mean_difference": 0.001}
    assert head.verdict(found, "full").status == "not reproduced"
    found[1]["result"]["scale 3"] |= {"mean_difference": 1e-6}
    found[0]["result"]["scale 3"] |= {"far_confident": 0.0}
    assert head.verdict(found, "full").status == "inconclusive", "nothing can fall to zero"


def test_leave_one_out_runs_small_with_all_arms_alike(tmp_path):
    claim, found = leave_one_out.CLAIM, []
    assert claim in claims
    for arm in claim.arms("smoke"):
        seed = (arm.seeds or claim.seeds("smoke"))[0]
        folder = tmp_path / str(seed)
        claim.shared(seed, folder / "shared", "smoke")
        settings = dict(arm.settings) | (claim.settle(arm, [one for one in found if one["arm"] in arm.follows]) if arm.follows else {})
        made = claim.run(dataclasses.replace(arm, settings=settings), seed, folder / arm.name.replace("/", "-"), "smoke")
        found.append({"arm": arm.name, "seed": seed, "settings": settings, "result": json.loads(json.dumps(made))})
    assert {one["result"]["updates"] for one in found} == {8}
    assert len({len(one["result"]["compute"]) for one in found}) == 1
    verdict = claim.verdict(found, "smoke")
    assert verdict.reason
    assert claim.plot(found, verdict).startswith("<svg")
    assert [row["reverted"] for row in claim.table(found)] == ["nothing", "head", "interruption", "pipeline"]


def test_every_arm_reverts_one_part_and_nothing_else():
    whole = ablation.rl_settings(leave_one_out.FULL | {"part": "scalerl", "rate": 1e-3})
    changed = {}
    for part in ablation.PARTS:
        own = ablation.rl_settings(leave_one_out.FULL | {"part": part, "rate": 1e-3})
        assert own["steps"] * own["minibatches"] == leave_one_out.FULL["updates"]
        assert own["prompts_per_step"] == leave_one_out.FULL["rl_prompts"] * own["minibatches"]
        build(RLConfig, own)
        changed[part] = {name for name in own if own[name] != whole[name]}
    queue = {"steps", "prompts_per_step", "minibatches", "lag", "slots"}
    assert changed == {
        "scalerl": set(), "loss": {"objective"}, "head": set(), "aggregation": {"objective"}, "normalisation": {"objective"},
        "filter": {"filters"}, "retirement": {"curriculum"}, "interruption": {"thinker", "shapers"}, "pipeline": queue,
    }  # fmt: skip
    assert {name: value for name, value in whole["objective"].items() if name != "preset"} == presets.KNOBS["scalerl"]
    halved = ablation.HalfHead(64, 8)
    states = torch.randn(5, 64)
    exact = torch.nn.functional.linear(states, halved.weight, halved.bias)
    assert 1e-4 < float((halved(states) - exact).abs().max()) < 0.1
    full = leave_one_out.CLAIM.arms("full")
    assert sum(len(arm.seeds or leave_one_out.CLAIM.seeds("full")) for arm in full) == 9 * 2 + 9 * 3
    assert all(arm.seeds == (leave_one_out.GRID_SEED,) for arm in full if arm.name.startswith("grid/"))
    assert leave_one_out.GRID_SEED not in leave_one_out.CLAIM.seeds("full")


def made_up(**parts):
    """Results of three seeds: part -> (A, B) or a level alone."""
    found = []
    for part in ablation.PARTS:
        given = parts.get(part, parts["scalerl"])
        for seed, shift in enumerate((-0.01, 0.0, 0.01)):
            level = (given[0] if isinstance(given, tuple) else given) + shift
            fitted = {"a": level, "b": given[1] + shift, "c_mid": 1.0} if isinstance(given, tuple) else None
            result = {"level": level, "fit": fitted, "ceiling": 0.7, "samples": 4, "compute": [0.0, 1.0], "successes": [[1, 0], [2, 1]]}
            found.append({"arm": part, "seed": seed, "settings": {"rate": 1e-3}, "result": result})
    return found


def test_the_verdict_of_leave_one_out_can_go_every_way():
    same = leave_one_out.verdict(made_up(scalerl=(0.6, 1.5)), "full")
    assert same.status == "inconclusive"
    assert same.figures["loss: A"].startswith("no difference")
    worse = leave_one_out.verdict(made_up(scalerl=(0.6, 1.5), loss=(0.5, 1.5), filter=(0.6, 1.2)), "full")
    assert worse.status == "reproduced"
    assert "loss, filter" in worse.reason
    better = leave_one_out.verdict(made_up(scalerl=(0.6, 1.5), head=(0.66, 1.5)), "full")
    assert better.status == "not reproduced"
    assert better.figures["interval_low"] > better.figures["effect"]
    assert better.figures["headroom"] == pytest.approx(0.1)
    inside = leave_one_out.verdict(made_up(scalerl=(0.6, 1.5), head=(0.615, 1.5)), "full")
    assert inside.status == "inconclusive", "a difference within the spread of the seeds is none"
    refused = leave_one_out.verdict(made_up(scalerl=(0.6, 1.5), head=0.5), "full")
    assert refused.figures["head: A"] == "no fit"
    assert refused.status == "reproduced", "the level stands for A where a fit was refused"
    rows = leave_one_out.table(made_up(scalerl=(0.6, 1.5), loss=(0.5, 1.5)))
    assert rows[1]["A against the whole"] == "worse"
    assert rows[1]["B against the whole"] == "no difference"
    assert rows[0]["A"] == "0.600 (0.590 to 0.610)"
