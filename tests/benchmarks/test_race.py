"""The race against TRL stops unless both sides compute the same first step; its statistics and its memory figure are what they say."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("trl")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.race import agreement, setup, trl_side

from benchmarks import trl_race
from burnish.models.policy import Policy

SMOKE = setup.CASES["smoke"]
FIXED = dataclasses.replace(SMOKE, name="smoke, fixed", mean=None)


@pytest.mark.parametrize("case", [SMOKE, FIXED], ids=["long-tailed", "fixed"])
def test_both_sides_compute_the_same_first_step(case):
    found = agreement.check(case, trl_side.Flags())
    assert found["loss_difference"] <= 1e-5
    assert found["gradient_difference"] <= 1e-5
    assert abs(found["loss_trl"]) > 1e-3, "a loss of zero would agree with anything"


@pytest.mark.parametrize("changes", [{"loss_type": "grpo"}, {"scale_rewards": "none"}, {"temperature": 1.1}])
def test_a_setting_that_differs_stops_the_benchmark(changes):
    with pytest.raises(agreement.Disagreement, match="do not agree"):
        agreement.check(SMOKE, trl_side.Flags(), **changes)


def test_lengths_follow_the_wanted_rate():
    rate = setup._end_rate(64.0, 256)
    lengths = np.arange(1, 257)
    p = rate * (1 - rate) ** (lengths - 1)
    p[-1] = (1 - rate) ** 255
    assert (p * lengths).sum() == pytest.approx(64.0, abs=1e-6)


def test_completions_of_a_fixed_length_are_frozen_at_different_ones():
    frozen = agreement.freeze(FIXED, Policy(*setup.make_model(FIXED)), setup.prompts()[:2])
    assert [[len(rollout.turns[0].output_ids) for rollout in group] for group in frozen] == [[3, 6], [3, 6]]


def test_cases_that_are_not_run_again_stay_with_their_command(tmp_path):
    path = tmp_path / "race.json"
    assert trl_race.earlier(str(path)) == trl_race.earlier(None) == {}
    path.write_text(json.dumps({"provenance": {"command": "old"}, "cases": {"fixed": {"case": "a"}, "smoke": {"provenance": {}}}}))
    assert trl_race.earlier(str(path)) == {"fixed": {"case": "a", "provenance": {"command": "old"}}, "smoke": {"provenance": {}}}


def test_ratios_pair_the_steps():
    rows = {
        "burnish": [{"cpu": x, "generate": 1.0, "rest": 1.0, "mean_length": 2, "max_length": 3} for x in (1.0, 20.0, 3.0)],
        "trl": [{"cpu": x, "generate": 2.0, "rest": 4.0, "mean_length": 2, "max_length": 3} for x in (2.0, 40.0, 6.0)],
    }
    found = trl_race.ratios(rows)
    assert (found["cpu"]["ratio"], found["cpu"]["low"], found["cpu"]["high"]) == (0.5, 0.5, 0.5)
    assert (found["generate"]["ratio"], found["rest"]["ratio"]) == (0.5, 0.25)


@pytest.mark.slow
def test_two_processes_take_turns():
    found = trl_race.race("smoke", 1, trl_side.Flags())
    assert len(found["steps"]["trl"]) == len(found["steps"]["burnish"]) == 1
    assert all(0 < row["generate"] < row["cpu"] for rows in found["steps"].values() for row in rows)
