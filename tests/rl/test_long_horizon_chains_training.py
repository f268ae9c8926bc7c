"""The horizon curriculum, the reward of the last answer and the recipe."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_objective
from burnish.records import Group, Item, Limits, Rollout, Score, StopReason, Turn
from burnish.rl.batch import Batch
from burnish.rl.curricula.base import make_curriculum
from burnish.rl.rewards.long_horizon_chains import FinalAnswer
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions
from burnish.tasks.long_horizon_chains import final_answer, is_right

ITEMS = [
    Item(f"{h}-{n}", [1], limits=Limits(max_new_tokens=80), columns={"horizon": h, "answer": "7"}) for h in (1, 2, 3, 4) for n in range(6)
]


def curriculum(**settings):
    return make_curriculum({"name": "long_horizon_chains", **settings}, ITEMS)


def scored(items, step, rate, n=10, invalid=False):
    """A batch in which a share of every item's rollouts succeeds. rate: one number, or by horizon."""
    groups = []
    for item in items:
        share = rate if isinstance(rate, float) else rate[item.columns["horizon"]]
        scores = [Score(0.0, success=float(place < round(n * share)), invalid=invalid) for place in range(n)]
        groups.append(Group(item, [Rollout(item.id, place, [Turn([1], [2], np.array([-0.5]))]) for place in range(n)], scores))
    return Batch(step, 0, groups)


def climb(part, steps, rate, n=4, start=0):
    """The horizons drawn at each step, with these rates observed."""
    out = []
    for step in range(start, start + steps):
        drawn = part.draw(n, {"step": step, "seed": 3, "round": 0})
        out.append([item.columns["horizon"] for item in drawn])
        part.observe(scored(drawn, step, rate))
    return out


def test_stages_by_steps_alone():
    part = curriculum(threshold=None, steps=3, probe=0)
    assert climb(part, 12, 1.0) == [[h] * 4 for h in (1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4)]
    each = curriculum(threshold=None, steps=[1, 3, 2], probe=0)
    assert [row[0] for row in climb(each, 8, 0.0)] == [1, 2, 2, 2, 3, 3, 4, 4]


def test_a_stage_ends_at_the_threshold_or_at_its_cap():
    part = curriculum(threshold=0.8, window=2, steps=5, probe=0)
    assert [row[0] for row in climb(part, 10, {1: 0.8, 2: 0.7, 3: 0.9, 4: 1.0})] == [1, 1, 2, 2, 2, 2, 2, 3, 3, 4]
    assert part.metrics() == {"curriculum/horizon": 4.0, "curriculum/stage_steps": 1.0, "curriculum/success": 1.0}
    assert [row[0] for row in climb(part, 20, 1.0, start=10)] == [4] * 20, "the last stage does not end"


def test_the_published_defaults_and_rounds_of_one_step():
    part = curriculum()
    assert (part.caps, part.threshold, part.keep, part.stages) == ([200] * 4, 0.8, 0.0, [1, 2, 3, 4])
    part = curriculum(threshold=None, steps=2, probe=0)
    drawn = [part.draw(2, {"step": step, "round": turn})[0].columns["horizon"] for step in (0, 1, 2) for turn in (0, 1, 2)]
    assert drawn == [1] * 6 + [2] * 3, "three rounds are one step"


def test_the_output_limit_rises_with_the_horizon():
    def limits(part):
        return [part.draw(1, {"step": step})[0].limits.max_new_tokens for step in range(4)]

    assert limits(curriculum(threshold=None, steps=1, probe=0)) == [20, 40, 60, 80]
    assert limits(curriculum(threshold=None, steps=1, probe=0, tokens=25)) == [25, 50, 75, 80]
    assert ITEMS[0].limits.max_new_tokens == 80, "the items themselves stay as they are"


def test_shorter_chains_are_kept_only_where_asked():
    part = curriculum(threshold=None, steps=1, probe=0, keep=0.25)
    drawn = [item.columns["horizon"] for step in range(3, 403) for item in part.draw(4, {"step": step, "seed": 1})]
    deep = drawn[12:]  # the last stage
    assert set(deep) == {1, 2, 3, 4}
    assert np.mean([h < 4 for h in deep]) == pytest.approx(0.25, abs=0.03)
    assert set(drawn[:4]) == {1}


def test_every_item_comes_once_an_epoch():
    part = curriculum(first=2, last=2, probe=0)
    drawn = [item.id for step in range(6) for item in part.draw(2, {"step": step, "seed": 5})]
    assert sorted(drawn[:6]) == sorted(drawn[6:]) == [f"2-{n}" for n in range(6)]
    assert drawn[:6] != drawn[6:]


def test_a_start_that_is_too_weak_is_refused_with_its_rates():
    part = curriculum(probe=4)
    assert climb(part, 2, {1: 0.8, 2: 0.3}) == [[1, 2, 1, 2]] * 2
    assert (part.probing, part.horizon, climb(part, 1, 0.5, start=2)) == (False, 1, [[1] * 4])
    with pytest.raises(UserError, match=r"does not solve horizon 1 \(measured 0.200 at horizon 1 and 0.100 at horizon 2"):
        climb(curriculum(probe=4), 2, {1: 0.2, 2: 0.1})
    with pytest.raises(UserError, match=r"never succeeds at horizon 2 \(measured 0.900 at horizon 1 and 0.000"):
        climb(curriculum(probe=4), 2, {1: 0.9, 2: 0.0})
    assert climb(curriculum(probe=0), 1, 0.0) == [[1] * 4]
    quiet = curriculum(probe=0)
    with pytest.raises(UserError, match="carry no success"):
        quiet.observe(Batch(0, 0, [Group(ITEMS[0], [], [])]))


def test_invalid_scores_do_not_count():
    part = curriculum(threshold=0.8, window=1, probe=0)
    part.observe(scored(part.draw(2, {"step": 0}), 0, 1.0, invalid=True))
    assert part.success is None
    assert part.draw(1, {"step": 1})[0].columns["horizon"] == 1


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_it_resumes_where_it_was(at):
    rates = {1: 0.9, 2: 0.85, 3: 0.4, 4: 0.0}
    settings = {"threshold": 0.8, "window": 2, "steps": 4, "probe": 4, "keep": 0.2}
    whole = curriculum(**settings)
    expected = climb(whole, 14, rates)
    first, second = curriculum(**settings), curriculum(**settings)
    begun = climb(first, at, rates)
    second.load_state_dict(first.state_dict())
    assert begun + climb(second, 14 - at, rates, start=at) == expected
    assert second.state_dict() == whole.state_dict()


def test_bad_settings_and_bad_items():
    for settings, message in (
        ({"first": 5}, "no items from horizon 5"),
        ({"last": 9}, "the items have 1, 2, 3, 4"),
        ({"steps": [1, 2]}, "one for each of the 4 stages"),
        ({"steps": 0}, "at least 1"),
        ({"threshold": 1.2}, "threshold 1.2"),
        ({"keep": 1.0}, "keep 1.0"),
        ({"window": 0}, "window 0"),
    ):
        with pytest.raises(UserError, match=message):
            curriculum(**settings)
    with pytest.raises(UserError, match="item 'x' has horizon None"):
        make_curriculum("long_horizon_chains", [Item("x", [1])])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"A1 = 12. So \boxed{1,204}.", 1204),
        (r"\boxed{5} and then \boxed{8}", 8),
        (r"\boxed{8} since 5 + 3", 8),
        (r"A1 is 5. \boxed{", None),
        (r"\boxed{\$12.50}", 12.5),
        (r"\boxed{-\frac{3}{4}}", -0.75),
        (r"\boxed{18\text{ apples}}", 18),
        (r"\boxed{3 or 4}", None),
        ("First 12, then the answer is $1,250.", 1250),
        ("it is -3", -3),
        ("A2 is X3, none", None),
        ("", None),
        ("12 apples and 7.5 pears", 7.5),
    ],
)
def test_the_last_boxed_or_the_last_number(text, value):
    found = final_answer(text)
    assert found == value if value is not None else found is None


def rollouts(*stops):
    return [Rollout("c", place, [Turn([1], [2], np.array([-0.5]))], stop=stop) for place, stop in enumerate(stops)]


def test_only_a_finished_last_answer_is_rewarded():
    item = Item("c", [1], columns={"answer": "42", "horizon": 2, "answers": [7, 42]})
    texts = ["A1 = 7. \\boxed{42}", "\\boxed{7}", "7, so 42", "\\boxed{42}", "\\boxed{42}"]
    ended = rollouts(StopReason.EOS, StopReason.EOS, StopReason.LENGTH, StopReason.ERROR, StopReason.STOP)
    scores = FinalAnswer()(Completions(item, ended, texts))
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert [score.success for score in scores] == [1.0, 0.0, 0.0, None, 1.0]
    assert [score.invalid for score in scores] == [False, False, False, True, False]
    assert not is_right("42 and 7", {"answer": "42"})
    with pytest.raises(UserError, match="column 'answer'"):
        is_right("42", {"answer": "many"})


def test_the_recipe_is_dr_grpo_with_nothing_dropped():
    config = build(TrainConfig, {"rl": {"recipe": "long-horizon-chains", "group_size": 4}})
    assert (config.rl.rewards, config.rl.filters, config.rl.group_size) == (("long_horizon_chains",), (), 4)
    assert config.rl.curriculum == {"name": "long_horizon_chains", "steps": 200, "threshold": 0.8}
    objective = build_objective(config.rl)
    assert objective.name == "dr_grpo"
    assert "max_length" in str(objective.weights)
    assert (objective.kl is None or objective.kl.beta == 0, objective.surrogate.clip_high) == (True, 0.2)
