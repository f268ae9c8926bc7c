"""The gradients of TRL's trainers on burnish are those of TRL itself, on the same rows and completions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl_world import PAIRS, needs_trl, reward_distinct, reward_letters, rows, saved

from burnish.models import tokenizer
from burnish.rl.learner import Learner
from burnish.runs.folder import Run
from burnish.sft.step import Stepper
from burnish.trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

Gradient = dict[str, torch.Tensor]
MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template that marks the assistant's tokens itself."""


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of few letters, whose completions often end early: lengths differ."""
    return saved(tokenizer.characters("ab0123456789="), tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of bytes, with a chat template."""
    return saved(tokenizer.byte_level(), tmp_path_factory.mktemp("bytes"))


def burnish_steps(model: str, output: Path, data: Any, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> tuple[list[Gradient], Any]:
    """Gradients of the optimiser steps of a GRPO run, and its rollouts of step 1."""
    seen: list[Gradient] = []
    plain = Learner._optimiser_step

    def watched(self: Learner, *args: Any, **kwargs: Any) -> Any:
        out = plain(self, *args, **kwargs)
        seen.append({name: p.grad.clone() for name, p in self.policy.model.named_parameters() if p.grad is not None})
        return out

    monkeypatch.setattr(Learner, "_optimiser_step", watched)
    args = GRPOConfig(output_dir=str(output), disable_tqdm=True, **fields)
    GRPOTrainer(model, [reward_letters, reward_distinct], args, data).train()
    return seen, Run(output).rollouts(1)


def trl_steps(model: str, output: Path, data: Any, rollouts: Any, **fields: Any) -> list[Gradient]:
    """Gradients of the optimiser steps of TRL's own trainer on the same completions."""
    from datasets import Dataset
    from trl import GRPOConfig as TRLConfig
    from trl import GRPOTrainer as TRLTrainer

    turns = [rollout["turns"][0] for group in rollouts for rollout in group["rollouts"]]
    waiting: dict[tuple[int, ...], list[list[int]]] = {}
    for turn in turns:
        waiting.setdefault(tuple(turn["context_ids"]), []).append(turn["output_ids"])
    seen: list[Gradient] = []

    class Frozen(TRLTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            return [waiting[tuple(ids)].pop(0) for ids in prompt_ids], None

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            out = super().training_step(*args, **kwargs)
            if self._step % self.args.gradient_accumulation_steps == 0:
                seen.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})
            return out

    args = TRLConfig(output_dir=str(output), disable_tqdm=True, save_strategy="no", **fields)
    Frozen(model, [reward_letters, reward_distinct], args, Dataset.from_list(data)).train()
    return seen


def apart(ours: Gradient, theirs: Gradient) -> float:
    """Norm of the difference over the norm."""
    assert ours.keys() == theirs.keys()
    difference = sum(float((ours[name].double() - theirs[name].double()).square().sum()) for name in ours)
    return float((difference / sum(float(value.double().square().sum()) for value in theirs.values())) ** 0.5)


TWO = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_generations": 4}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "dapo, two micro-batches, KL": TWO | {"beta": 0.1, "reward_weights": [1.0, 0.3]},
    "grpo, scale by the batch": TWO | {"loss_type": "grpo", "scale_rewards": "batch", "beta": 0.1, "use_bias_correction_kl": False},
    "dr_grpo, no scale": TWO | {"loss_type": "dr_grpo", "scale_rewards": False},
    "bnpo, uncertain tokens, entropy": {"loss_type": "bnpo", "num_generations": 4, "entropy_coef": 0.01, "temperature": 0.7},
    "dapo, most uncertain tokens": {"num_generations": 4, "top_entropy_quantile": 0.3, "beta": 0.1},
    "gspo": TWO | {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.9, "epsilon_high": 9.0},
    "cispo": TWO | {"loss_type": "cispo", "epsilon_high": 5.0},
    "cispo with its default bound": TWO | {"loss_type": "cispo"},
    "sapo": TWO | {"loss_type": "sapo"},
    "luspo": TWO | {"loss_type": "luspo", "importance_sampling_level": "sequence", "beta": 0.1},
    "vespo": TWO | {"loss_type": "vespo"},
    "dapo, truncated masked": {"num_generations": 4, "mask_truncated_completions": True, "beta": 0.1},
    "grpo, truncated masked": TWO | {"loss_type": "grpo", "mask_truncated_completions": True},
    "off-policy mask": TWO | {"off_policy_mask_threshold": 0.5, "delta": 4.0},
}


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_gradients_of_both_updates_are_those_of_trl(name, letters, tmp_path, monkeypatch):
    # adam_epsilon 1 keeps the first update smooth, so that the second one's gradient can be compared too: its ratios are not 1.
    fields: dict[str, Any] = {"max_completion_length": 12, "num_iterations": 2, "max_steps": 2, "bf16": False, "beta": 0.0}
    fields |= {"learning_rate": 1.0, "adam_epsilon": 1.0, "lr_scheduler_type": "constant", "logging_steps": 1} | CASES[name]
    data = rows(8 // fields.get("num_generations", 8))
    ours, rollouts = burnish_steps(letters, tmp_path / "ours", data, monkeypatch, **fields)
    theirs = trl_steps(letters, tmp_path / "theirs", data, rollouts, **fields)
    lengths = {len(rollout["turns"][0]["output_ids"]) for group in rollouts for rollout in group["rollouts"]}
    assert len(lengths) > 2
    assert len(ours) == len(theirs) == 2
    gaps = [apart(a, b) for a, b in zip(ours, theirs)]
    assert gaps[0] < 1e-6
    if name != "dapo, most uncertain tokens":  # TRL chooses them anew at each update, burnish once for a batch
        assert gaps[1] < 1e-5
    assert apart(ours[0], ours[1]) > 1e-3


def chats(n: int) -> list[dict[str, Any]]:
    asked = [[{"role": "user", "content": f"{k}+{k}"}, {"role": "assistant", "content": str(2 * k)}] for k in range(n)]
    return [{"messages": [{"role": "system", "content": "Add."}, *turns, *turns]} for turns in asked]


TEXT = [{"text": f"{k} and {'more ' * k}"} for k in range(8)]
TALKS = [{"prompt": row["messages"][:4], "completion": row["messages"][4:]} for row in chats(8)]
SFT_CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "prompt and completion, defaults": (PAIRS, {}),
    "prompt and completion, loss on all, accumulated": (
        PAIRS,
        {"completion_only_loss": False, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ),
    "text, cut": (TEXT, {"max_length": 20}),
    "text, cut at the start": (TEXT, {"max_length": 20, "truncation_mode": "keep_end"}),
    "messages": (chats(8), {}),
    "messages, the assistant's only": (chats(8), {"assistant_only_loss": True}),
    "prompt and completion of messages": (TALKS, {"weight_decay": 0.1}),
    "packed": (TEXT, {"packing": True, "max_length": 64, "per_device_train_batch_size": 5}),
}


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("name", SFT_CASES)
def test_the_gradients_of_fine_tuning_are_those_of_trl(name, model, tmp_path, monkeypatch):
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig as TRLConfig
    from trl import SFTTrainer as TRLTrainer

    data, more = SFT_CASES[name]
    fields: dict[str, Any] = {
        "max_steps": 2,
        "bf16": False,
        "learning_rate": 1.0,
        "adam_epsilon": 1.0,
        "lr_scheduler_type": "constant",
    } | more
    words = AutoTokenizer.from_pretrained(model)
    words.chat_template = MARKED
    ours: list[Gradient] = []
    theirs: list[Gradient] = []
    plain = Stepper.gradient

    def watched(self: Stepper, *args: Any, **kwargs: Any) -> Any:
        out = plain(self, *args, **kwargs)
        ours.append({name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None})
        return out

    class Watched(TRLTrainer):
        def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            out = super().training_step(model, *args, **kwargs)
            if self.accelerator.sync_gradients:
                theirs.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
            return out

    monkeypatch.setattr(Stepper, "gradient", watched)
    SFTTrainer(model, SFTConfig(output_dir=str(tmp_path / "ours"), disable_tqdm=True, **fields), None, data, processing_class=words).train()
    args = TRLConfig(output_dir=str(tmp_path / "theirs"), disable_tqdm=True, save_strategy="no", **fields)
    Watched(model, args, None, Dataset.from_list(data), processing_class=words).train()
    assert len(ours) == len(theirs) == 2
    gaps = [apart(a, b) for a, b in zip(ours, theirs)]
    assert gaps[0] < 1e-6
    assert gaps[1] < 1e-5


@needs_trl
@pytest.mark.slow
def test_the_default_precision_on_a_cpu_is_that_of_trl(model, tmp_path):
    """With use_cpu and bf16 unset both fine-tune in bfloat16: the losses agree to its rounding, and differ from float32's."""
    from datasets import Dataset
    from trl import SFTConfig as TRLConfig
    from trl import SFTTrainer as TRLTrainer

    fields: dict[str, Any] = {"max_steps": 1, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True}
    ours = SFTTrainer(model, SFTConfig(output_dir=str(tmp_path / "a"), **fields), None, PAIRS)
    ours.train()
    plain = SFTTrainer(model, SFTConfig(output_dir=str(tmp_path / "b"), bf16=False, **fields), None, PAIRS)
    plain.train()
    theirs = TRLTrainer(model, TRLConfig(output_dir=str(tmp_path / "c"), save_strategy="no", **fields), None, Dataset.from_list(PAIRS))
    theirs.train()
    losses = [trainer.state.log_history[0]["loss"] for trainer in (ours, plain, theirs)]
    assert losses[0] == pytest.approx(losses[2], rel=5e-3)
    assert 0 < abs(losses[0] - losses[1]) < 0.05
