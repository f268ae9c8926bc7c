"""Filters and curricula: what is kept, what comes next, and that both resume."""

import json
import warnings

import numpy as np
import pytest

from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.curricula.base import make_curriculum
from burnish.rl.filters.combine import Chain, Refill, make_filter
from burnish.rl.filters.truncated import Truncated
from burnish.rl.filters.zero_variance import ZeroVariance
from burnish.runs.errors import UserError


def group(name, rewards, stops=None, invalid=(), token_rewards=None):
    rollouts, scores = [], []
    for place, reward in enumerate(rewards):
        turn = Turn([1], [2, 3], np.array([-0.5, -1.0]), injected=[False, place == 1])
        rollouts.append(Rollout(name, place, [turn], stop=stops[place] if stops else "eos"))
        scores.append(Score(reward, success=float(reward > 0), invalid=place in invalid, token_rewards=token_rewards))
    return Group(Item(name, [1]), rollouts, scores)


# --- filters --------------------------------------------------------------------------------------------------------------------------
def test_zero_variance():
    nan = float("nan")
    groups = [group("a", [1, 1, 1]), group("b", [1, 0, 1]), group("c", [1, 1, nan], invalid=[2]), group("d", [1])]
    result = ZeroVariance()(groups)
    assert result.keep == [[False] * 3, [True] * 3, [False] * 3, [False]]
    assert result.groups == [False, True, False, False]
    assert (result.more, result.counts) == (0, {"zero_variance": 3})
    assert ZeroVariance()([group("e", [0.1 + 0.2, 0.3])]).groups == [False]  # equal but for rounding


def test_truncated_then_zero_variance():
    groups = [group("a", [1, 0, 1], stops=["eos", "length", "eos"]), group("b", [1, 0, 0], stops=["eos", "turns", "stop"])]
    assert Truncated()(groups).keep == [[True, False, True], [True, False, True]]
    result = Chain(["truncated", "zero_variance"])(groups)
    assert result.keep == [[False, False, False], [True, False, True]]
    assert result.counts == {"truncated": 2, "zero_variance": 1}
    assert make_filter(["truncated", "zero_variance"])(groups).keep == result.keep


def test_refill_asks_until_full_or_the_cap():
    dull, good = group("x", [1, 1]), group("y", [0, 1])
    part = make_filter({"name": "refill", "filter": "zero_variance", "prompts": 3, "rounds": 3})
    assert isinstance(part, Refill)
    assert part([dull, good, dull]).more == 2
    assert part([dull, good, dull, dull, good]).more == 1
    last = part([dull, good, dull, dull, good, dull])
    assert last.more == 0
    assert (last.counts["refill_rounds"], last.counts["refill_short"]) == (3, 1)
    assert part([good, good, good]).more == 0
    assert part([good, dull, good]).counts["refill_rounds"] == 1
    with pytest.raises(UserError, match="rounds"):
        Refill("zero_variance", prompts=2, rounds=0)


def test_what_filters_drop_leaves_the_credit():
    groups = [group("a", [1.0, 0.0, 5.0], invalid=[2], token_rewards=None), group("b", [1.0, 1.0, 1.0])]
    batch = CreditBatch.from_groups(groups, ZeroVariance()(groups).keep)
    assert batch.table.kept.tolist() == [True, True, False, False, False, False]
    assert batch.table.lengths.tolist() == [2, 1, 2, 2, 1, 2]
    assert (batch.table.n_kept, batch.table.n_kept_tokens, batch.table.n_kept_prompts) == (2, 3, 1)
    assert batch.measured["sample_logp"].tolist()[:3] == [-0.5, -1.0, -0.5]


def test_bad_scores_are_named():
    with pytest.raises(UserError, match=r"'a'.*not finite"):
        CreditBatch.from_groups([group("a", [float("nan"), 0.0])])
    with pytest.raises(UserError, match="token rewards for"):
        CreditBatch.from_groups([group("a", [0.0, 1.0], token_rewards=np.zeros(3))])
    mixed = group("a", [0.0, 1.0])
    mixed.scores[0].prompt_weight = 2.0
    with pytest.raises(UserError, match="prompt weights"):
        CreditBatch.from_groups([mixed])


# --- curricula ------------------------------------------------------------------------------------------------------------------------
ITEMS = [Item(f"q{number}", [1]) for number in range(10)]


def ids(items):
    return [item.id for item in items]


def state(step, seed=0):
    return {"step": step, "seed": seed, "round": 0}


def test_uniform_depends_on_seed_and_step_alone():
    a, b = make_curriculum("uniform", ITEMS), make_curriculum("uniform", ITEMS)
    a.draw(7, state(1))
    assert ids(a.draw(50, state(2))) == ids(b.draw(50, state(2)))
    assert ids(a.draw(50, state(2))) != ids(a.draw(50, state(3)))
    assert ids(a.draw(50, state(2))) != ids(a.draw(50, state(2, seed=1)))
    assert len(set(ids(a.draw(200, state(4))))) == 10


def test_shuffled_epochs_show_everything_once_and_resume():
    part = make_curriculum("shuffled_epochs", ITEMS)
    drawn = ids(part.draw(4, state(1))) + ids(part.draw(8, state(2)))
    kept = json.loads(json.dumps(part.state_dict()))
    rest = ids(part.draw(18, state(3)))
    whole = drawn + rest
    for epoch in range(3):
        assert sorted(whole[10 * epoch : 10 * epoch + 10]) == sorted(ids(ITEMS))
    assert whole[:10] != whole[10:20]
    again = make_curriculum("shuffled_epochs", ITEMS)
    again.load_state_dict(kept)
    assert ids(again.draw(18, state(3))) == rest


def batch(**successes):
    groups = [group(name, [float(value) for value in values]) for name, values in successes.items()]
    return Batch(1, 0, groups)


def test_difficulty_window_draws_inside():
    part = make_curriculum({"name": "difficulty_window", "low": 0.2, "high": 0.8, "min_count": 4, "explore": 0.0}, ITEMS[:4])
    part.observe(batch(q0=[1, 1, 1, 1], q1=[0, 0, 0, 0], q2=[1, 0, 1, 0], q3=[1, 1]))
    assert [part.rate(f"q{n}") for n in range(4)] == [1.0, 0.0, 0.5, None]
    for step in range(20):
        assert sorted(ids(part.draw(2, state(step)))) == ["q2", "q3"]
    assert sorted(ids(part.draw(4, state(0)))) == ["q0", "q1", "q2", "q3"]  # filled up with the nearest
    assert len(part.draw(9, state(0))) == 9
    again = make_curriculum({"name": "difficulty_window", "low": 0.2, "high": 0.8, "min_count": 4, "explore": 0.0}, ITEMS[:4])
    again.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert ids(again.draw(3, state(7))) == ids(part.draw(3, state(7)))


def test_difficulty_window_when_all_are_outside():
    part = make_curriculum({"name": "difficulty_window", "low": 0.3, "high": 0.6, "min_count": 2, "explore": 0.0}, ITEMS[:3])
    part.observe(batch(q0=[1, 1], q1=[0, 0], q2=[1, 1, 1, 0]))
    with pytest.warns(UserWarning, match="no item's pass rate"):
        assert ids(part.draw(1, state(0))) == ["q2"]  # 0.75 is nearest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(part.draw(1, state(1))) == ["q2"]  # once is enough


def test_difficulty_window_forgets_explores_and_reads_success():
    part = make_curriculum({"name": "difficulty_window", "min_count": 2, "decay": 0.5, "explore": 1.0}, ITEMS)
    part.observe(batch(q0=[0, 0]))
    part.observe(batch(q0=[1, 1]))
    assert part.rate("q0") == pytest.approx(2 / 3)
    assert len(set(ids(part.draw(10, state(0))))) == 10
    silent = batch(q0=[1, 1])
    for score in silent.groups[0].scores:
        score.success = None
    with pytest.warns(UserWarning, match="no success"):
        part.observe(silent)


def test_curricula_refuse():
    with pytest.raises(UserError, match="no items"):
        make_curriculum("uniform", [])
    with pytest.raises(UserError, match="did you mean 'low'"):
        make_curriculum({"name": "difficulty_window", "lo": 0.1}, ITEMS)
    with pytest.raises(UserError, match="low <= high"):
        make_curriculum({"name": "difficulty_window", "low": 0.9, "high": 0.1}, ITEMS)
    with pytest.raises(UserError, match="did you mean 'uniform'"):
        make_curriculum("unifrom", ITEMS)


def test_a_curriculum_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "class First:\n    def __init__(self, items, skip=0):\n        self.items = items[skip:]\n"
        "    def draw(self, n, state):\n        return self.items[:n]\n"
    )
    assert ids(make_curriculum({"name": f"{path}:First", "skip": 2}, ITEMS).draw(2, state(0))) == ["q2", "q3"]
    ready = object()
    assert make_curriculum(ready, ITEMS) is ready
