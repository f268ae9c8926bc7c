"""Rewards: TRL functions unchanged, verifiers, format, length, sums, the random control, and what a broken function gets told."""

import math

import numpy as np
import pytest

from burnish.records import Item, Rollout, Score, Turn
from burnish.rl.rewards.control import RandomReward
from burnish.rl.rewards.format import Format
from burnish.rl.rewards.length import Cosine, Overlong
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.rewards.verifier import Verifier
from burnish.rl.rewards.weighted import Weighted, make_reward
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


def completions(texts, stops=None, lengths=None, chat=False, **columns) -> Completions:
    rollouts = []
    for place, text in enumerate(texts):
        n = lengths[place] if lengths else len(text)
        turn = Turn([1, 2], list(range(n)), np.zeros(n))
        rollouts.append(Rollout("q", place, [turn], stop=stops[place] if stops else "eos"))
    prompt = [{"role": "user", "content": "2+2?"}] if chat else [7, 8]
    return Completions(Item("q", prompt, len(texts), columns=columns), rollouts, list(texts))


def rewards(scores):
    return [score.reward for score in scores]


# --- TRL ------------------------------------------------------------------------------------------------------------------------------
def test_trl_function_gets_what_trl_passes():
    seen = {}

    def reward(prompts, completions, completion_ids, answer, trainer_state, log_extra, log_metric, **kwargs):
        seen.update(locals())
        log_extra("length", [len(text) for text in completions])
        log_metric("mean_length", np.mean([len(text) for text in completions]))
        return [float(a in text) for a, text in zip(answer, completions)]

    part = TRLReward(reward, decode=lambda ids: "-".join(map(str, ids)), success_above=1.0)
    scores = part(completions(["4", "five"], answer="4", level=3))
    assert rewards(scores) == [1.0, 0.0]
    assert [score.success for score in scores] == [1.0, 0.0]
    assert [score.parts for score in scores] == [{"reward": 1.0}, {"reward": 0.0}]
    assert [score.extras for score in scores] == [{"length": 1}, {"length": 4}]
    assert seen["prompts"] == ["7-8", "7-8"]
    assert seen["completion_ids"] == [[0], [0, 1, 2, 3]]
    assert seen["answer"] == ["4", "4"]
    assert seen["kwargs"] == {"level": [3, 3]}
    assert seen["trainer_state"].global_step == 0
    assert part.metrics() == {"mean_length": 2.5}
    assert part.metrics() == {}


def test_trl_chat_items_are_messages_and_state_resumes():
    seen = {}

    def reward(prompts, completions, **kwargs):
        seen.update(kwargs, prompts=prompts, completions=completions)
        return [0] * len(completions)

    part = TRLReward(reward)
    part.observe(type("Batch", (), {"step": 5}))
    again = TRLReward(reward)
    again.load_state_dict(part.state_dict())
    again(completions(["yes"], chat=True))
    assert seen["completions"] == [[{"role": "assistant", "content": "yes"}]]
    assert seen["prompts"] == [[{"role": "user", "content": "2+2?"}]]
    assert seen["trainer_state"].global_step == 5


def test_trl_narrow_signatures_and_coroutines():
    assert rewards(TRLReward(lambda completions: np.array([0.5] * len(completions)), name="half")(completions(["a", "b"]))) == [0.5, 0.5]

    async def later(completions, **kwargs):
        return [1] * len(completions)

    assert rewards(TRLReward(later)(completions(["a"]))) == [1.0]


def test_none_inside_the_list_means_not_applicable():
    maths = TRLReward(lambda completions, **kwargs: [1.0, None, None], name="maths")
    style = TRLReward(lambda completions, **kwargs: [0.5, 0.25, None], name="style")
    scores = Weighted([maths, style], [1.0, 2.0])(completions(["a", "b", "c"]))
    assert rewards(scores)[:2] == [2.0, 0.5]
    assert [score.invalid for score in scores] == [False, False, True]
    assert [score.parts for score in scores] == [{"maths": 1.0, "style": 0.5}, {"style": 0.25}, {}]


def _raises(completions, **kwargs):
    return completions[0].no_such_thing


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda completions, **kwargs: None, ("returned None", "list")),
        (lambda completions, **kwargs: [1.0], ("1 values for the 2 completions",)),
        (lambda completions, **kwargs: [1.0, math.nan], ("nan", "completion 1", "finite")),
        (lambda completions, **kwargs: [math.inf, 1.0], ("inf", "completion 0")),
        (lambda completions, **kwargs: ["good", 1.0], ("'good'", "completion 0")),
        (lambda completions, **kwargs: 1.0, ("returned 1.0", "list")),
        (lambda completions, **kwargs: {"a": 1, "b": 2}, ("list",)),
        (_raises, ("AttributeError", "no_such_thing", "test_rewards.py, line")),
        (lambda completions, needed, **kwargs: [0, 0], ("wants 'needed'", "columns there")),
        (lambda completions, log_extra, **kwargs: log_extra("x", [1]), ("log_extra", "1 values for 2")),
    ],
)
def test_a_broken_function_is_named_with_item_and_remedy(function, words):
    with pytest.raises(UserError) as caught:
        TRLReward(function, name="mine")(completions(["a", "b"]))
    text = str(caught.value)
    assert "'mine'" in text
    assert "'q'" in text
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_broken_rollout_is_invalid_not_wrong():
    group = completions(["a", "b"], stops=["eos", "error"])
    for part in (TRLReward(lambda completions, **kwargs: [1, 1]), Verifier(lambda text, columns: True, name="v")):
        assert [score.invalid for score in part(group)] == [False, True]


# --- the others -----------------------------------------------------------------------------------------------------------------------
def test_verifier():
    part = Verifier(lambda text, columns: text == columns["answer"], name="exact")
    scores = part(completions(["4", "5"], answer="4"))
    assert [(s.reward, s.success, s.parts) for s in scores] == [(1.0, 1.0, {"exact": 1.0}), (0.0, 0.0, {"exact": 0.0})]

    class Task:
        name = "sum"

        def score(self, text, columns):
            return Score(reward=0.3, success=0.0)

    assert rewards(make_reward(Task())(completions(["x"]))) == [0.3]
    with pytest.raises(UserError, match="verifier returns"):
        Verifier(lambda text, columns: "yes", name="bad")(completions(["x"]))
    with pytest.raises(UserError, match=r"'bad' raised KeyError.*item 'q'"):
        Verifier(lambda text, columns: columns["nothing"], name="bad")(completions(["x"]))


def test_format():
    assert rewards(Format(r"<a>.*</a>")(completions([" <a>x\ny</a> ", "<a>x</a> and more"]))) == [1.0, 0.0]
    assert rewards(Format(r"\d+", match="search", value=0.5)(completions(["is 42", "none"]))) == [0.5, 0.0]
    assert rewards(Format(predicate=str.isupper)(completions(["ABC", "abc"]))) == [1.0, 0.0]
    for arguments in ({}, {"pattern": "a", "predicate": str.isupper}, {"pattern": "("}):
        with pytest.raises(UserError, match="reward format"):
            Format(**arguments)


def test_soft_overlong_punishment():
    part = Overlong(max_length=20, cache=5)
    group = completions([""] * 5, lengths=[1, 15, 16, 20, 21])
    assert rewards(part(group)) == pytest.approx([0, 0, -0.2, -1, -1])
    shaped = part.shape(group, [Score(1.0, success=1.0, parts={"exact": 1.0}) for _ in range(5)])
    assert rewards(shaped) == pytest.approx([1, 1, 0.8, 0, 0])
    assert shaped[2].parts == pytest.approx({"exact": 1.0, "overlong": -0.2})
    assert shaped[2].success == 1.0
    with pytest.raises(UserError, match="cache"):
        Overlong(max_length=4, cache=5)


def test_cosine_length_reward():
    part = Cosine(max_length=10)
    values = [part.value(length, success) for success in (True, False) for length in (0, 5, 10, 11)]
    assert values == pytest.approx([1, 0.75, 0.5, -1, -1, -0.75, -0.5, -1])
    with pytest.raises(UserError, match="success"):
        part.shape(completions(["a"]), [Score(1.0)])


def test_weighted_sum_keeps_names_and_token_rewards():
    def dense(group, measured):
        return [Score(0.0, token_rewards=np.array([0.0, 1.0]), prompt_weight=2.0) for _ in group.rollouts]

    part = Weighted([{"name": "format", "pattern": "ok"}, dense, Verifier(lambda text, columns: True, name="v")], [0.5, 3.0, 1.0])
    (score,) = part(completions(["ok"]))
    assert score.reward == 1.5
    assert score.success == 1.0
    assert score.parts == {"format": 1.0, "dense": 0.0, "v": 1.0}
    assert score.token_rewards.tolist() == [0.0, 3.0]
    assert score.prompt_weight == 2.0
    assert Weighted(["random", "random"]).names == ["random", "random_2"]
    with pytest.raises(UserError, match="2 weights for 1"):
        Weighted(["random"], [1, 2])
    with pytest.raises(UserError, match="no reward"):
        Weighted([])
    with pytest.raises(UserError, match=r"returned .*1 values for the 2 rollouts"):
        Weighted([lambda group, measured: [Score(0.0)]])(completions(["a", "b"]))


def test_random_reward_knows_item_and_index_only():
    part = RandomReward(p=0.5, truth=Verifier(lambda text, columns: text == "4"))
    scores = part(completions(["4"] * 200))
    assert scores == part(completions(["4"] * 200))
    assert rewards(part(completions(["5"] * 200))) == rewards(scores)
    assert 70 < sum(rewards(scores)) < 130
    assert all(score.success == 1.0 for score in scores)


def test_functions_are_taken_by_their_parameters(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from burnish.records import Score\n"
        "def trl(prompts, completions, **kwargs):\n    return [1.0] * len(completions)\n"
        "def check(text, columns):\n    return text == columns['answer']\n"
        "def ours(group, measured):\n    return [Score(0.5) for _ in group.rollouts]\n"
        "def odd(a, b, c):\n    return 0\n"
    )
    group = completions(["4", "5"], answer="4")
    found = {name: rewards(make_reward(f"{path}:{name}")(group, {})) for name in ("trl", "check", "ours")}
    assert found == {"trl": [1.0, 1.0], "check": [1.0, 0.0], "ours": [0.5, 0.5]}
    assert isinstance(make_reward({"name": "trl", "function": f"{path}:trl"}, decode=str), TRLReward)
    with pytest.raises(UserError, match=r"\(a, b, c\)"):
        make_reward(f"{path}:odd")
    with pytest.raises(UserError, match="did you mean 'format'"):
        make_reward("formt")
