"""TRL's trainers on burnish: scripts run unchanged, metrics bear TRL's names, runs stop and resume, refusals name the remedy."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from trl_world import PAIRS, needs_trl, reward_letters, rows, saved

from burnish.models import tokenizer
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

SCRIPTS = Path(__file__).parent / "trl_scripts"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of bytes, with a chat template."""
    return saved(tokenizer.byte_level(), tmp_path_factory.mktemp("bytes"))


# --- scripts --------------------------------------------------------------------------------------------------------------------------

NOT_GIVEN = re.compile(
    r"train/(total_flos|clip_ratio/(low_min|high_max))"
    r"|eval/(loss|entropy|clip_ratio/.*|num_tokens|runtime|samples_per_second|steps_per_second)"
)
"""Names that docs/from_trl.md says are not given (for evaluation: of GRPO, and the speed)."""


def events(folder: Path) -> dict[str, dict[int, float]]:
    """tag -> step -> value, of all event files below a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out: dict[str, dict[int, float]] = {}
    for path in sorted(folder.rglob("*tfevents*")):
        found = EventAccumulator(str(path)).Reload()
        for tag in found.Tags()["scalars"]:
            out.setdefault(tag, {}).update({event.step: event.value for event in found.Scalars(tag)})
    return out


@needs_trl
@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "sft"])
def test_a_script_runs_with_trl_and_after_changing_the_import(name, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", model, "theirs"])
    runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
    changed = text.replace("from trl import", "from burnish.trl import")
    assert sum(a != b for a, b in zip(text.splitlines(), changed.splitlines())) == 1
    (tmp_path / "changed.py").write_text(changed + "assert 'trl' not in sys.modules\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "changed.py", model, "ours"], env=ENV, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs, ours = events(tmp_path / "theirs"), events(tmp_path / "ours")
    assert len(theirs) > 8
    assert not [tag for tag in theirs if tag not in ours and not NOT_GIVEN.fullmatch(tag)]
    for tag in ("train/loss", "train/reward" if name == "grpo" else "train/mean_token_accuracy", "train/learning_rate"):
        assert list(ours[tag]) == list(theirs[tag])  # logged at the same steps
    assert list(ours["eval/reward" if name == "grpo" else "eval/loss"]) == [3 if name == "grpo" else 5]
    rows = {row["step"]: row for row in Run(tmp_path / "ours").metrics()}
    if name == "grpo":
        assert ours["train/loss"][2] == pytest.approx(rows[2]["loss"], abs=1e-7)
        assert {f"train/rewards/reward_{kind}/{figure}" for kind in ("answer", "short") for figure in ("mean", "std")} < set(ours)
        assert "train/hard_share" in ours
    else:
        assert ours["train/loss"][4] == pytest.approx((rows[3]["loss"] + rows[4]["loss"]) / 2, rel=1e-6)
    assert (tmp_path / "ours-final" / "model.safetensors").exists()


# --- the trainers themselves ----------------------------------------------------------------------------------------------------------


def grpo(model: str, output: Path, **fields: Any) -> Any:
    settings: dict[str, Any] = {"max_completion_length": 6, "per_device_train_batch_size": 4, "num_generations": 2, "max_steps": 4}
    settings |= {"save_steps": 1, "learning_rate": 1e-2, "bf16": False, "disable_tqdm": True, "logging_steps": 1}
    more = {key: fields.pop(key) for key in ("callbacks", "peft_config", "eval_dataset") if key in fields}
    return GRPOTrainer(model, reward_letters, GRPOConfig(output_dir=str(output), **settings | fields), rows(3), **more)


def test_a_callback_stops_a_run_which_then_resumes_to_the_same_weights(model, tmp_path):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        events: ClassVar[list[str]] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.events.append(f"step {state.global_step}")
            control.should_training_stop = state.global_step == 2

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.events.append("save")

        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.events.append("epoch")

    whole = grpo(model, tmp_path / "whole")
    assert whole.train().global_step == 4
    stopped = grpo(model, tmp_path / "parts", callbacks=[Stop])
    assert stopped.train().global_step == 2
    assert Stop.events == ["step 1", "save", "epoch", "step 2", "save", "epoch"]  # two of three prompts a step
    with pytest.raises(UserError, match="resume_from_checkpoint=True"):
        grpo(model, tmp_path / "parts").train()
    with pytest.raises(UserError, match="newest checkpoint"):
        grpo(model, tmp_path / "parts").train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-1"))
    resumed = grpo(model, tmp_path / "parts")
    resumed.train(resume_from_checkpoint=True)
    for (name, a), (_, b) in zip(whole.model.named_parameters(), resumed.model.named_parameters()):
        assert torch.equal(a, b), name
    ends = [[row["num_tokens"] for row in Run(tmp_path / part).metrics()] for part in ("whole", "parts")]
    assert ends[0] == ends[1]


def test_the_best_checkpoint_is_loaded_and_early_stopping_is_heard(model, tmp_path):
    from transformers import EarlyStoppingCallback

    fields = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 12, "num_generations_eval": 4}
    trainer = grpo(model, tmp_path / "run", eval_dataset=rows(2), callbacks=[EarlyStoppingCallback(2)], **fields)
    trainer.train()
    found = {row["step"]: row["eval_reward"] for row in trainer.state.log_history if "eval_reward" in row}
    best = max(found, key=lambda step: (found[step], -step))
    assert max(found) == min(12, best + 2)
    assert trainer.state.best_metric == found[best]
    assert trainer.state.best_model_checkpoint == str(tmp_path / "run" / f"checkpoint-{best}")
    assert trainer.evaluate()["eval_reward"] == pytest.approx(found[best])


def test_an_adapter_is_trained_alone(model, tmp_path):
    from peft import LoraConfig

    trainer = grpo(model, tmp_path / "run", peft_config=LoraConfig(r=2, target_modules=["q_proj"]), max_steps=2, beta=0.1)
    trainer.train()
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert trainer.state.log_history[1]["kl"] > 0


def test_steps_are_those_of_trl(tmp_path):
    from burnish.recipes.trl.settings import steps_of, train_config

    args = GRPOConfig(output_dir=str(tmp_path), num_generations=4, steps_per_generation=4, gradient_accumulation_steps=2, num_iterations=3)
    steps = steps_of(args, 100)  # 8 prompts a batch: 12 batches an epoch, 6 updates each
    assert (steps.updates, steps.epoch, steps.total, steps.rounds) == (6, 72, 216, 36)
    config = train_config(args, steps).rl
    assert (config.prompts_per_step, config.group_size, config.minibatches, config.epochs, config.steps) == (8, 4, 2, 3, 36)
    with pytest.raises(UserError, match="set max_steps to a multiple"):
        steps_of(GRPOConfig(num_generations=4, num_iterations=3, max_steps=4), 100)
    assert steps_of(SFTConfig(num_train_epochs=1.5, save_steps=0.1), 100).total == 20
    assert steps_of(SFTConfig(num_train_epochs=1.5, save_steps=0.1), 100).save == 2


REFUSED: list[tuple[Any, str]] = [
    (lambda: GRPOConfig(num_generation=4), "no field 'num_generation'; did you mean 'num_generations'"),
    (lambda: SFTConfig(warmup_ratio=0.1), "no field 'warmup_ratio'; did you mean 'warmup_steps'"),
    (lambda: GRPOConfig(use_vllm=True), "GRPOConfig.use_vllm is True"),
    (lambda: GRPOConfig(top_p=0.9), "top_p is 0.9"),
    (lambda: GRPOConfig(num_generations=3), "do not divide into groups"),
    (lambda: GRPOConfig(num_generations=1), "at least 2 completions"),
    (lambda: GRPOConfig(eval_strategy="step"), "did you mean 'steps'"),
    (lambda: GRPOConfig(multi_objective_aggregation="normalize_then_sum"), "weigh the rewards with reward_weights"),
    (lambda: SFTConfig(loss_type="dft"), "loss_type is 'dft'"),
    (lambda: SFTConfig(packing=True, packing_strategy="wrapped"), "packing_strategy is 'wrapped'"),
    (lambda: SFTConfig(deepspeed="ds.json"), "deepspeed is 'ds.json'"),
    (lambda: GRPOTrainer("m", "reward-model", None, rows(1)), "reward models are not run here"),
    (lambda: GRPOTrainer("m", reward_letters, None, rows(1), tools=[len]), "tools is set"),
    (lambda: GRPOTrainer("m", reward_letters, SFTConfig(), rows(1)), "make a GRPOConfig"),
    (lambda: GRPOTrainer("m", reward_letters, GRPOConfig(eval_strategy="epoch"), rows(1)), "eval_dataset is None"),
    (lambda: SFTTrainer("m", None, None, None), "train_dataset is None"),
    (lambda: SFTTrainer("m", None, None, PAIRS, optimizers=(1, None)), "optimizers is set"),
    (lambda: SFTTrainer("no-such-folder/m", None, None, PAIRS), "no-such-folder"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_honoured_is_refused_in_a_line(number):
    make, words = REFUSED[number]
    with pytest.raises(UserError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


LATER: list[tuple[dict[str, Any], str]] = [
    ({"loss_type": "gspo"}, "loss_type is 'gspo'"),
    ({"loss_type": "grpo", "entropy_coef": 0.1}, "entropy_coef"),
    ({"loss_type": "bnpo", "gradient_accumulation_steps": 2}, "depends on how a step is cut"),
    ({"lr_scheduler_type": "polynomial"}, "lr_scheduler_type is 'polynomial'"),
    ({"optim": "adafactor"}, "optim is 'adafactor'"),
    ({"scale_rewards": "groups"}, "did you mean 'group'"),
    ({"reward_weights": [1.0, 2.0]}, "2 numbers for 1 reward functions"),
    ({"report_to": "mlflow"}, "unknown tracker 'mlflow'"),
    ({"model_init_kwargs": {"load_in_4bit": True}}, "'load_in_4bit' is not taken"),
    ({"load_best_model_at_end": True}, "eval_strategy is 'no'"),
    ({"warmup_steps": 9}, "below the 4 steps"),
]


@pytest.mark.parametrize(("fields", "words"), LATER, ids=[words for _, words in LATER])
def test_what_the_trainer_finds_is_refused_in_a_line(fields, words, model, tmp_path):
    with pytest.raises(UserError) as caught:
        grpo(model, tmp_path / "run", **fields)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


# --- the tables -----------------------------------------------------------------------------------------------------------------------


@needs_trl
@pytest.mark.parametrize("name", ["GRPOConfig", "SFTConfig"])
def test_every_field_of_trl_is_there_with_its_default(name):
    import dataclasses

    import trl

    from burnish.recipes.trl.arguments import fields_of

    def default(field: Any) -> Any:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        return getattr(value, "value", value)

    theirs = {field.name: default(field) for field in dataclasses.fields(getattr(trl, name))}
    ours = {field.name: field.default for field in fields_of(name).values()}
    assert set(theirs) == set(ours)
    odd = {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key] and (ours[key] or theirs[key])}
    assert not odd


def test_the_page_has_the_tables_of_this_version():
    root = Path(__file__).resolve().parents[2]
    page = runpy.run_path(str(root / "tools" / "from_trl_page.py"))
    text = (root / "docs" / "from_trl.md").read_text(encoding="utf-8")
    assert page["filled"](text) == text, "run python tools/from_trl_page.py"
    assert text.count("| `learning_rate` |") == 2


def test_the_arguments_come_from_a_command_line():
    from transformers import HfArgumentParser

    words = ["--output_dir", "runs/a", "--num_generations", "4", "--beta", "0.1", "--learning_rate", "1e-4", "--bf16", "false"]
    (args,) = HfArgumentParser(GRPOConfig).parse_args_into_dataclasses(words)
    assert (args.output_dir, args.num_generations, args.beta, args.learning_rate, args.bf16) == ("runs/a", 4, 0.1, 1e-4, False)
