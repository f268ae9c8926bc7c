"""train_sft: learns, measures, keeps the best, stops early, and resumes after a SIGKILL to the same bits."""

import math
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.models import lora, tiny
from burnish.models import tokenizer as tokenizers
from burnish.models.policy import Policy
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.schedules import make as rate_schedule
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft

ROWS = [{"prompt": f"{a}+{b}=", "completion": f"{a + b}"} for a in range(10) for b in range(10)]
BASE = {"learning_rate": 3e-3, "batch_size": 10, "schedule": "constant"}


def _policy(**options):
    torch.set_num_threads(1)
    tokenizer = tokenizers.byte_level(None)
    model = tiny.make("qwen3", tokenizer, hidden=32, layers=1, heads=2, kv_heads=1, max_length=64, **options)
    return Policy(model, tokenizer)


def _weights(policy):
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def _train(folder, config, policy=None, resume=False, held=True, **options):
    policy = policy or _policy()
    examples = to_examples(load_rows(ROWS), policy)
    run = Run.create(folder, config, resume=resume)
    found = train_sft(policy, examples[:90], config, run, examples[90:] if held else None, **options)
    return policy, run, found


def test_it_learns_and_logs_the_usual_names(tmp_path):
    config = SFTConfig(**BASE, epochs=6, eval_steps=18, save_steps=27, save_total_limit=1)
    _, run, found = _train(tmp_path / "run", config)
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(55))
    assert set(rows[0]) >= {"eval_loss", "eval_mean_token_accuracy", "eval_entropy"}
    assert set(rows[1]) >= {"loss", "mean_token_accuracy", "entropy", "num_tokens", "epoch", "grad_norm", "learning_rate"}
    assert rows[1]["loss"] == pytest.approx(math.log(261), abs=0.5)
    assert rows[54]["loss"] < rows[1]["loss"] - 3
    assert rows[54]["eval_loss"] < rows[0]["eval_loss"] - 2
    assert rows[54]["epoch"] == 6.0
    assert rows[54]["num_tokens"] == 6 * rows[9]["num_tokens"]
    assert rows[54]["compute/flops"] == pytest.approx(6 * rows[9]["compute/flops"])
    assert (found["step"], found["stopped"], found["eval_loss"]) == (54, "done", rows[54]["eval_loss"])
    best = min((row["eval_loss"], row["step"]) for row in rows if "eval_loss" in row and row["step"])
    assert (found["best_value"], found["best_step"]) == best
    assert (tmp_path / "run" / f"checkpoint-{best[1]}" / "model.safetensors").exists()


def test_early_stopping_ends_with_the_best_weights(tmp_path):
    config = SFTConfig(**{**BASE, "learning_rate": 0.03}, steps=400, eval_steps=5, patience=2)
    policy, run, found = _train(tmp_path / "run", config)
    assert found["stopped"] == "patience"
    assert found["step"] == found["best_step"] + 10 < 400
    saved = tiny_weights(run.path / f"checkpoint-{found['best_step']}")
    assert all(torch.equal(value, saved[name]) for name, value in _weights(policy).items() if name in saved)


def tiny_weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


class _KillAt:
    """A progress object that kills its own process, with no chance to tidy up."""

    def __init__(self, step):
        self.step = step

    def update(self, step, row):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def _until_killed(folder, config, step, resume):
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_train, args=(folder, config), kwargs={"resume": resume, "progress": _KillAt(step)})
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("average", [None, 0.9])
def test_killed_and_resumed_equals_unbroken(tmp_path, average):
    config = SFTConfig(**{**BASE, "schedule": "cosine"}, epochs=3, batch_tokens=60, save_steps=4, eval_steps=5, average=average, warmup=0.2)
    whole, run, found = _train(tmp_path / "whole", config)
    for resume, step in ((False, 3), (True, 7), (True, 17)):  # before the first checkpoint, between two, after an evaluation
        _until_killed(tmp_path / "broken", config, step, resume)
    broken, other, again = _train(tmp_path / "broken", config, resume=True)
    assert all(torch.equal(value, _weights(broken)[name]) for name, value in _weights(whole).items())
    timeless = [[{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in one.metrics()] for one in (run, other)]
    assert timeless[0] == timeless[1]
    assert {k: v for k, v in found.items() if "/" not in k} == {k: v for k, v in again.items() if "/" not in k}
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        _train(tmp_path / "broken", config.model_copy(update={"seed": 1}), resume=True)


def test_an_adapter_alone_is_trained(tmp_path):
    plain = _policy()
    policy = Policy(lora.add_lora(plain.model, lora.LoraConfig(rank=4)), plain.tokenizer)
    before = _weights(policy)
    config = SFTConfig(**{**BASE, "learning_rate": 0.01}, steps=30, gradient_checkpointing=True)
    _, run, found = _train(tmp_path / "run", config, policy, held=False)
    changed = {name for name, value in _weights(policy).items() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora" in name for name in changed)
    assert found["loss"] < run.metrics()[0]["loss"] - 0.5
    assert (run.path / "checkpoint-30" / "adapter_model.safetensors").exists()
    policy.model.requires_grad_(False)
    with pytest.raises(UserError, match="no parameter of the model wants a gradient"):
        _train(tmp_path / "frozen", config, policy)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"epochs": 1, "steps": 2}, "epochs and steps are both set"),
        ({"patience": 2}, "patience needs eval_steps"),
        ({"betas": (0.9, 1.0)}, "betas is"),
    ],
)
def test_configs_that_make_no_sense_are_refused(fields, reason):
    with pytest.raises(ValueError, match=reason):
        SFTConfig(**fields)


def test_the_schedule():
    cosine = [rate_schedule("cosine", 10, 0.2)(k) for k in range(10)]
    assert cosine[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert cosine[6] == pytest.approx(0.5)
    assert cosine[2:] == sorted(cosine[2:], reverse=True)
    assert 0 < cosine[-1] < 0.05
    assert [rate_schedule("linear", 4, 0.0, 0.5)(k) for k in range(5)] == pytest.approx([1.0, 0.875, 0.75, 0.625, 0.5])
    assert {rate_schedule("constant", 10, 0.0)(k) for k in range(10)} == {1.0}
    assert np.isfinite([rate_schedule("cosine", 1, 0.9)(k) for k in range(3)]).all()
