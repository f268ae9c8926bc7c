"""The greedy baseline has its greedy completion: drawn, scored, compared with, never trained on."""

import json

import numpy as np
import pytest

from burnish.models import tiny, tokenizer
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.records import Group, Item, Rollout, Sampling, Score, Turn
from burnish.rl.batch import group_from_dict
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.chain import make_chain
from burnish.runs.config import build
from burnish.runs.errors import UserError

ROWS = [{"prompt": "a=", "answer": "a"}, {"prompt": "b=", "answer": "b"}]


def run(folder, thinker, reward="judge.py:share"):
    words = tokenizer.characters("abcd=")
    model = tiny.make("qwen3", words, hidden=16, layers=1, heads=2, kv_heads=1, max_length=32, seed=0)
    rl = {"steps": 2, "prompts_per_step": 2, "group_size": 3, "max_new_tokens": 5, "rewards": [reward], "thinker": thinker,
          "learning_rate": 1e-2, "objective": {"preset": "reinforce", "credit": "greedy"}}  # fmt: skip
    return train(build(TrainConfig, {"stage": "rl", "output": str(folder), "rl": rl}), model=model, tokenizer=words, data=ROWS)


@pytest.fixture(autouse=True)
def judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge.py").write_text("def share(text, columns):\n    return text.count(columns['answer']) / 5\n")


def test_a_run_with_the_greedy_baseline(tmp_path):
    found = run(tmp_path / "run", "with_greedy")
    records = [json.loads(line) for line in (tmp_path / "run" / "rollouts" / "step-000001.jsonl").read_text().splitlines()]
    for record in records:
        group = group_from_dict(record)
        assert [rollout.index for rollout in group.rollouts] == [0, 1, 2, 3]
        assert [rollout.turns[0].sampling.temperature for rollout in group.rollouts] == [1, 1, 1, 0]
        assert [rollout.turns[0].train for rollout in group.rollouts] == [True, True, True, False]
        assert record["kept"] == [True, True, True, False]
    assert found["run"].metrics()[0]["rollouts/drawn"] == 8
    again = run(tmp_path / "again", "with_greedy")
    assert again["run"].metrics()[1]["loss"] == found["run"].metrics()[1]["loss"]


def test_credit_is_reward_less_the_greedy_one():
    def one(index, temperature, train):
        turn = Turn(context_ids=[0], output_ids=[1, 2], logprobs=np.zeros(2), train=train, sampling=Sampling(temperature=temperature))
        return Rollout(item_id="x", index=index, turns=[turn], stop="eos")

    rollouts = [one(0, 1.0, True), one(1, 1.0, True), one(2, 0.0, False)]
    group = Group(Item(id="x", prompt=[0], group_size=2), rollouts, [Score(reward=value) for value in (1.0, 0.0, 0.25)])
    batch = CreditBatch.from_groups([group], [[True, True, False]])
    assert make_chain("greedy")(batch).tokens.tolist() == [0.75, 0.75, -0.25, -0.25]


def test_a_thinker_without_greedy_completions_is_refused_before_anything_loads(tmp_path):
    with pytest.raises(UserError, match=r"set rl.thinker to 'with_greedy'"):
        run(tmp_path / "run", "single")
    assert not (tmp_path / "run").exists()


def test_a_reward_that_cannot_judge_the_greedy_completion_is_refused(tmp_path):
    with pytest.raises(UserError, match="the reward 'confidence' says nothing"):
        run(tmp_path / "run", "with_greedy", "confidence")
    assert not (tmp_path / "run").exists()
