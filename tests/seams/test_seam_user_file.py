"""Seam: a reward and a curriculum from the user's own file, by name, through the one recipe that every user takes."""

import json

import pytest
import torch

from burnish.models import tiny, tokenizer
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.runs import parts
from burnish.runs.errors import UserError
from burnish.runs.folder import Run

MINE = '''
from burnish.records import Score

def digits(completions, completion_ids, answer, **columns):
    """A reward in TRL's signature: reads the data's column."""
    return [len(ids) / 10 + (str(want) in text) for text, ids, want in zip(completions, completion_ids, answer)]

class Even:
    """A reward in burnish's own."""
    def __init__(self, scale=1.0):
        self.scale = scale
    def __call__(self, group, measured):
        return [Score(self.scale * sum(t % 2 == 0 for t in r.output_ids), success=1.0, parts={"even": 1.0}) for r in group.rollouts]

class Backwards:
    """A curriculum: the last items first; counts what it has drawn."""
    def __init__(self, items, stride=1):
        self.items, self.stride, self.drawn = list(items), stride, 0
    def draw(self, n, state):
        picked = [self.items[-1 - (self.drawn + k) * self.stride % len(self.items)] for k in range(n)]
        self.drawn += n
        return picked
    def state_dict(self):
        return {"drawn": self.drawn}
    def load_state_dict(self, state):
        self.drawn = state["drawn"]
'''
DATA = [{"prompt": f"item {k}:", "answer": k} for k in range(5)]


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_parts_of_a_file_are_made_by_name(mine):
    reward = parts.make("burnish.rl.rewards", {"name": f"{mine}:Even", "scale": 0.5})
    assert reward.scale == 0.5
    with pytest.raises(UserError, match=r"unknown argument 'scales'; did you mean 'scale'"):
        parts.make("burnish.rl.rewards", {"name": f"{mine}:Even", "scales": 0.5})
    with pytest.raises(UserError, match=r"mine.py has no 'Evn'; did you mean 'Even'"):
        parts.make("burnish.rl.rewards", f"{mine}:Evn")


def test_train_draws_by_the_users_curriculum_and_scores_by_the_users_rewards(mine, tmp_path):
    words = tokenizer.byte_level(chat_template=None)
    config = TrainConfig(
        output=str(tmp_path / "run"),
        threads=1,
        rl={
            "steps": 3,
            "prompts_per_step": 2,
            "group_size": 2,
            "max_new_tokens": 5,
            "learning_rate": 1e-3,
            "objective": "dr_grpo",
            "slots": 8,
            "success_above": None,
            "curriculum": {"name": f"{mine}:Backwards", "stride": 2},
            "rewards": [f"{mine}:digits", {"name": f"{mine}:Even", "scale": 0.25}],
            "weights": [1.0, 2.0],
        },
    )
    result = train(config, model=tiny.make("qwen3", words, hidden=32, layers=2), tokenizer=words, data=DATA)
    run = result["run"]
    expected = [4, 2, 0, 3, 1, 4]  # from the last item backwards in strides of two
    drawn = [group for step in (1, 2, 3) for group in run.rollouts(step)]
    assert [group["item"]["columns"]["answer"] for group in drawn] == expected
    for group in drawn:
        prompt = words(f"item {group['item']['columns']['answer']}:")["input_ids"]
        for rollout, score, text in zip(group["rollouts"], group["scores"], group["texts"], strict=True):
            (turn,) = rollout["turns"]
            assert turn["context_ids"] == prompt
            ids = turn["output_ids"]
            shown = words.decode([t for t in ids if t < 256])
            digits = len(ids) / 10 + (str(group["item"]["columns"]["answer"]) in shown)
            assert score["reward"] == pytest.approx(digits + 2 * 0.25 * sum(t % 2 == 0 for t in ids)), text
            assert score["success"] == 1.0
    rows = run.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["sampling/sampling_logp_difference/max"] <= 2e-5 for row in rows)
    state = json.loads((tmp_path / "run" / "checkpoint-3" / "state.json").read_text())
    assert '"drawn": 6' in json.dumps(state)
    assert torch.isfinite(torch.tensor(rows[-1]["loss"]))
    assert Run(tmp_path / "run").config["rl"]["curriculum"]["stride"] == 2
