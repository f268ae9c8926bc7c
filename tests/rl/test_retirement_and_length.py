"""Two small parts of ScaleRL's recipe: prompts that are solved retire, and right answers that are too long pay."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.curricula.base import make_curriculum
from burnish.rl.curricula.retirement import Retirement, retired
from burnish.rl.rewards.length import LengthPenalty
from burnish.runs import parts
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

RECIPE = json.loads((Path(__file__).parent / "golden_scalerl" / "recipe.json").read_text())
ITEMS = [Item(name, [1]) for name in "abcd"]


def visit(**rates):
    """A scored batch: each named item with ten rollouts, of which a share succeeds."""
    groups = []
    for name, rate in rates.items():
        scores = [Score(0.0, success=float(place < round(10 * rate))) for place in range(10)]
        rollouts = [Rollout(name, place, [Turn([1], [2], np.array([-0.5]))]) for place in range(10)]
        groups.append(Group(Item(name, [1]), rollouts, scores))
    return Batch(1, 0, groups)


def draws(curriculum, n, step):
    return [item.id for item in curriculum.draw(n, {"step": step, "seed": 3, "round": 0})]


def test_retired_as_published():
    case = RECIPE["retirement"]
    assert retired(case["visits"]) == case["retired_by_last_visit"]
    assert retired(case["visits"], window="all") == case["retired_by_all_time_mean"]
    assert retired(case["visits"], min_count=2) == ["p0", "p2"]


@pytest.mark.parametrize("window", ["last", "all"])
def test_the_curriculum_follows_the_pure_function(window):
    case = RECIPE["retirement"]["visits"]
    curriculum = Retirement([Item(name, [1]) for name in case], window=window, at=0.9)
    for name, rates in case.items():
        for rate in rates:
            curriculum.observe(visit(**{name: round(rate, 1)}))
    rounded = {name: [round(rate, 1) for rate in rates] for name, rates in case.items()}
    assert [name for name in case if curriculum.is_retired(name)] == retired(rounded, window=window)


def test_retired_prompts_are_never_drawn_and_a_resumed_run_goes_on():
    one = make_curriculum({"name": "retirement", "curriculum": "shuffled_epochs"}, ITEMS)
    before = draws(one, 4, 1)
    assert sorted(before) == list("abcd")
    assert before == draws(make_curriculum("shuffled_epochs", ITEMS), 4, 1), "nothing retired, nothing changed"
    one.observe(visit(a=1.0, b=0.5, c=0.9))
    assert one.metrics()["curriculum/retired"] == 0.5
    two = Retirement(ITEMS)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    seen = [draws(one, 3, step) for step in range(2, 12)]
    assert {name for drawn in seen for name in drawn} == {"b", "d"}
    assert seen == [draws(two, 3, step) for step in range(2, 12)]


def test_a_second_drawing_in_one_step_counts_for_its_prompt():
    curriculum = Retirement(ITEMS, min_count=2)
    curriculum.observe(visit(**{"a": 1.0, "a#2": 1.0}))
    assert curriculum.is_retired("a")


def test_the_way_out_when_every_prompt_is_retired():
    curriculum = Retirement(ITEMS, curriculum="uniform")
    curriculum.observe(visit(a=1.0, b=1.0, c=1.0))
    assert draws(curriculum, 3, 1) == ["d", "d", "d"]
    curriculum.observe(visit(d=1.0))
    with pytest.warns(UserWarning, match="every prompt is solved"):
        assert len(draws(curriculum, 4, 2)) == 4
    assert not curriculum.is_retired("a")
    curriculum.observe(visit(a=1.0, b=1.0, c=1.0, d=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws(curriculum, 4, 3)  # warns once


def test_bad_settings_and_scores_without_success():
    for wrong in ({"at": 0.0}, {"min_count": 0}, {"window": "first"}):
        with pytest.raises(UserError, match="curriculum retirement"):
            Retirement(ITEMS, **wrong)
    curriculum = Retirement(ITEMS)
    group = Group(ITEMS[0], [Rollout("a", 0, [Turn([1], [2], np.array([-0.5]))])], [Score(1.0)])
    curriculum.observe(Batch(1, 0, [group]))
    assert not curriculum.is_retired("a")


# -- length


def test_the_length_penalty_as_published():
    case = RECIPE["length_penalty"]
    shaper = parts.make("burnish.rl.rewards", "length_penalty")
    assert [shaper.penalty(length) for length in case["lengths"]] == pytest.approx(case["penalty"], abs=1e-12)


def test_only_right_answers_pay():
    shaper = LengthPenalty(max_length=10, cache=4)
    rollouts = [Rollout("a", place, [Turn([1], [2] * n, np.full(n, -0.5))]) for place, n in enumerate([8, 8, 6, 8])]
    group = Completions(ITEMS[0], rollouts, [""] * 4)
    scores = [Score(1.0, success=1.0), Score(-1.0, success=0.0), Score(1.0, success=1.0), Score(0.0, invalid=True)]
    found = shaper.shape(group, scores)
    assert [score.reward for score in found] == [0.5, -1.0, 1.0, 0.0]
    assert [score.parts.get("length_penalty") for score in found] == [-0.5, 0.0, 0.0, None]
    with pytest.raises(UserError, match="length_penalty: item 'a' has a score without success"):
        shaper.shape(group, [Score(1.0)] * 4)
