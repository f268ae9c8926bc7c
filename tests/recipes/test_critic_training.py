"""PPO with a critic of its own: the value loss falls, the reward rises, and an interrupted run ends in the bits of the unbroken one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import resume_world
import torch

from burnish.models import tiny, tokenizer
from burnish.models.lora import LoraConfig, add_lora
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import critic_copy, frozen_copy
from burnish.recipes.train import train
from burnish.runs.errors import UserError

WORDS = tokenizer.byte_level()


def even(completions, completion_ids, **kwargs):
    """Share of even tokens: half at first, and there is something to learn from every token."""
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]


def interrupted(at: int):
    """`even`, but the n-th call is Ctrl-C."""
    calls = iter(range(1, at + 1))

    def reward(completions, completion_ids, **kwargs):
        if next(calls) == at:
            raise KeyboardInterrupt
        return even(completions, completion_ids)

    reward.__name__ = "even"  # metrics carry it
    return reward


def model() -> torch.nn.Module:
    return tiny.make("qwen3", WORDS, hidden=32, layers=1, max_length=48, seed=5)


def config(folder: Path, name: str, **rl) -> TrainConfig:
    common = {
        "steps": 6, "learning_rate": 0.003, "prompts_per_step": 4, "group_size": 4, "max_new_tokens": 8, "objective": "ppo",
        "save_steps": 2, "success_above": None, "slots": 16,
    }  # fmt: skip
    return TrainConfig.model_validate({"output": str(folder / name), "seed": 3, "threads": 1, "rl": common | rl})


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


DATA = [{"prompt": f"{a}{b}"} for a in "abcd" for b in "xyz"]


def start(settings: TrainConfig, reward=even, **more):
    return train(settings, model=more.pop("model", None) or model(), tokenizer=WORDS, data=DATA, reward=reward, **more)


def test_ppo_learns_and_its_critic_too(tmp_path):
    knobs = {"steps": 10, "learning_rate": 0.01, "critic_learning_rate": 0.02, "epochs": 4, "group_size": 8, "max_new_tokens": 6}
    start(config(tmp_path, "run", **knobs, beta=0.005, save_steps=None))
    found = rows(tmp_path / "run")
    errors, rewards = [row["value/error"] for row in found], [row["reward"] for row in found]
    assert sum(errors[-3:]) / 3 < 0.5 * errors[0]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1
    assert found[0]["critic/loss"] > 0
    assert {"grad_norm", "grad_norm/critic", "learning_rate/critic"} <= set(found[0])
    assert found[0]["learning_rate/critic"] == 0.02
    assert found[0]["learner/updates"] == 4


@pytest.mark.parametrize("knobs", [{"minibatches": 2, "critic_learning_rate": 0.01}, {"lag": 1}], ids=["minibatches", "lag"])
def test_an_interrupted_run_ends_in_the_same_bits(tmp_path, knobs):
    start(config(tmp_path, "whole", **knobs))
    broken = config(tmp_path, "broken", **knobs)
    with pytest.raises(KeyboardInterrupt):
        start(broken, interrupted(4 * 5 - 1))
    assert [row["step"] for row in rows(tmp_path / "broken")][-1] < 6
    start(broken, resume=True)
    assert resume_world.differences(resume_world.outcome(tmp_path / "broken"), resume_world.outcome(tmp_path / "whole")) == []


def test_a_critic_shares_what_is_frozen_and_only_that():
    policy = Policy(add_lora(model(), LoraConfig(rank=2)), WORDS)
    critic, reference = critic_copy(policy), frozen_copy(policy)
    mine = dict(policy.model.named_parameters())
    for name, parameter in critic.model.named_parameters():
        assert (parameter is mine[name]) == (not mine[name].requires_grad), name
    for name, parameter in reference.model.named_parameters():
        assert not parameter.requires_grad
        assert (parameter is mine[name]) == (not mine[name].requires_grad)
        assert torch.equal(parameter, mine[name])


def test_a_head_that_is_no_embedding_is_shared_and_left_alone():
    policy = Policy(tiny.make("llama", WORDS, hidden=32, layers=1, max_length=48, tie_word_embeddings=False), WORDS)
    critic = critic_copy(policy)
    own, theirs = critic.model.get_output_embeddings().weight, policy.model.get_output_embeddings().weight
    assert own.data_ptr() == theirs.data_ptr()
    assert theirs.requires_grad
    assert not own.requires_grad


def test_a_lora_policy_with_a_critic(tmp_path):
    settings = config(tmp_path, "run", steps=2).model_copy(
        update={"model": config(tmp_path, "x").model.model_copy(update={"lora": LoraConfig(rank=2)})}
    )
    start(settings)
    assert rows(tmp_path / "run")[-1]["grad_norm/critic"] > 0


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(UserError, match="'grpo' has no critic"):
        start(config(tmp_path, "run", objective="grpo", critic_learning_rate=0.1))
    scored = torch.nn.Linear(2, 2)
    scored.burnish_score = None
    with pytest.raises(UserError, match="cannot be a critic"):
        critic_copy(Policy(scored, WORDS))
