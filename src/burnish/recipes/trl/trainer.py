"""What GRPOTrainer and SFTTrainer share: model, run folder, resumption, saving, and what scripts read of a trainer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.data.formats import load_rows
from burnish.data.rows import Rows
from burnish.models import save
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import load_policy
from burnish.recipes.refusals import refuse_model
from burnish.recipes.trl.history import History, check_callbacks
from burnish.recipes.trl.settings import Steps, model_fields
from burnish.runs import atomic, checkpoints
from burnish.runs import trackers as tracker_parts
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything


class Trainer:
    """Base of the two. Subclasses set `config_class`, make rows into what is trained on, and run.

    model, args, processing_class, callbacks, optimizers, peft_config, train_dataset, eval_dataset: as in TRL.
    """

    config_class: Any = None

    def __init__(
        self,
        model: Any,
        args: Any,
        train_dataset: Any,
        eval_dataset: Any,
        processing_class: Any,
        callbacks: Sequence[Any] | None,
        optimizers: Sequence[Any],
        peft_config: Any,
        refused: Mapping[str, Any],
    ) -> None:
        name = type(self).__name__
        for key, value in refused.items():
            if value is not None:
                raise UserError(f"{name}: {key} is set, which burnish does not take; {REFUSED.get(key, 'leave it out')}")
        if any(one is not None for one in optimizers or ()):
            raise UserError(f"{name}: optimizers is set; burnish makes AdamW from learning_rate, adam_* and weight_decay, so leave it out")
        path = str(model) if isinstance(model, str | Path) else ""
        if args is None:
            origin = path or str(getattr(getattr(model, "config", None), "_name_or_path", "") or "model")
            args = self.config_class(output_dir=f"{origin.rstrip('/').split('/')[-1]}-{name.removesuffix('Trainer')}")
        if not isinstance(args, self.config_class):
            raise UserError(
                f"{name}: args is a {type(args).__name__}; make a {self.config_class.__name__} of burnish.trl with the same fields"
            )
        if train_dataset is None:
            raise UserError(f"{name}: train_dataset is None; give a dataset or a list of rows")
        if isinstance(eval_dataset, dict):
            raise UserError(f"{name}: eval_dataset is a dictionary of datasets; give one dataset")
        if args.eval_strategy != "no" and eval_dataset is None:
            raise UserError(
                f"{name}: eval_strategy is {args.eval_strategy!r} but eval_dataset is None; give one, or set eval_strategy to 'no'"
            )
        if args.world_size > 1:
            raise UserError(
                f"{name}: this is one of {args.world_size} processes; start the script as one, or use `burnish train` for several"
            )
        self.args, self.train_dataset, self.eval_dataset = args, train_dataset, eval_dataset
        self.callbacks = check_callbacks(callbacks)
        self.rows = self.read(train_dataset)
        self.held_out = None if eval_dataset is None else self.read(eval_dataset)
        self.policy = self._policy(model, path, processing_class, peft_config)
        self._path = path
        self.prepare()
        self.steps: Steps = self.count_steps()
        self.config: TrainConfig = self.make_config(path)
        self.history = self._new_history()
        self.history.fire("init_end")

    # -- what subclasses say

    def read(self, dataset: Any) -> Rows:
        """Checked rows."""
        return load_rows(dataset)

    def prepare(self) -> None:
        """Rows become what is trained on."""
        raise NotImplementedError

    def count_steps(self) -> Steps:
        """Optimiser steps of the run."""
        raise NotImplementedError

    def make_config(self, path: str) -> TrainConfig:
        """The run's config."""
        raise NotImplementedError

    def run(self, run: Run, trackers: Sequence[Any], progress: Any) -> dict[str, Any]:
        """Trains in the run folder; returns {"best_step", ...}."""
        raise NotImplementedError

    def measure(self, held_out: Any) -> dict[str, float]:
        """The metrics of a held-out evaluation, under TRL's names."""
        raise NotImplementedError

    # -- TRL's methods

    @property
    def model(self) -> Any:
        """The model that is trained."""
        return self.policy.model

    @property
    def processing_class(self) -> Any:
        """Its tokenizer."""
        return self.policy.tokenizer

    tokenizer = processing_class

    @property
    def state(self) -> Any:
        """transformers' TrainerState: global_step, epoch, log_history, best_metric."""
        return self.history.state

    @property
    def accelerator(self) -> Any:
        """For scripts that print through it."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.args.device.type == "cpu")

    def is_world_process_zero(self) -> bool:
        """True in the process that writes."""
        return bool(self.args.process_index == 0)

    def add_callback(self, callback: Any) -> None:
        """One more callback."""
        self.callbacks += check_callbacks([callback])
        self.history.callbacks = list(self.callbacks)

    def train(self, resume_from_checkpoint: str | bool | None = None) -> Any:
        """Trains to the end and returns transformers' TrainOutput. resume_from_checkpoint: True, or the newest checkpoint's folder."""
        from transformers.trainer_utils import TrainOutput

        args, resume = self.args, self._resumes(resume_from_checkpoint)
        for tracker in self.history.trackers:
            tracker.finish()
        if (Path(args.output_dir) / "config.yaml").exists() and not resume:
            raise UserError(
                f"{args.output_dir} holds a run already; go on with train(resume_from_checkpoint=True) or choose another output_dir"
            )
        Run.check(args.output_dir, self.config, resume)
        run = Run.create(args.output_dir, self.config, command=sys.argv, resume=resume)
        self.history = history = self._new_history()
        seed_everything(args.seed)
        history.trackers = list(tracker_parts.make(self.config.trackers, run, self.config))
        history.fire("train_begin")
        history.fire("epoch_begin")
        history.fire("step_begin")
        started = time.perf_counter()
        try:
            result = self.run(run, [history], None)
        except BaseException:
            run.discard()
            raise
        history.control.should_training_stop = False
        row = history.closing(started, len(history.losses) * self.samples_per_step())
        history.fire("train_end")
        if args.load_best_model_at_end and result.get("best_step") is not None:
            self.state.best_model_checkpoint = str(checkpoints.path_of(run.path, result["best_step"]))
        return TrainOutput(self.state.global_step, row["train_loss"], row)

    def samples_per_step(self) -> int:
        """Rows of one step."""
        return int(self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Measures the present weights on `eval_dataset` (default: the trainer's) and returns {"eval_...": value}; logged too."""
        rows = self.held_out if eval_dataset is None else self.read(eval_dataset)
        if rows is None:
            raise UserError(f"{type(self).__name__}.evaluate: there is no eval_dataset; give one")
        started = time.perf_counter()
        found = self.measure(rows) | {"eval_runtime": time.perf_counter() - started}
        self.history.evaluated(found)
        return found if metric_key_prefix == "eval" else {key.replace("eval", metric_key_prefix, 1): value for key, value in found.items()}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Weights, config and tokenizer in Hugging Face's form; default: into the run folder itself."""
        target = Path(output_dir or self.args.output_dir)
        if (target / "config.yaml").exists():
            with atomic.explained(target):
                save.write_files(self.policy, None, target)
        else:
            save.save_model(self.policy, None, target)

    def save_state(self) -> None:
        """trainer_state.json in the run folder."""
        Path(self.args.output_dir).mkdir(parents=True, exist_ok=True)
        self.state.save_to_json(str(Path(self.args.output_dir) / "trainer_state.json"))

    def log_metrics(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints them."""
        print({f"{split}_{key}" if not key.startswith(split) else key: value for key, value in metrics.items()})

    def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
        """Refused: `burnish export` publishes a finished run."""
        raise UserError(f"push_to_hub is not taken here; publish the run with `burnish export {self.args.output_dir}`")

    # -- inside

    def _new_history(self) -> History:
        handed = {"model": self.policy.model, "processing_class": self.policy.tokenizer}
        return History(self.args, self.steps, self.callbacks, handed, show=self.args.disable_tqdm is not True)

    def _policy(self, model: Any, path: str, tokenizer: Any, peft_config: Any) -> Policy:
        settings = build(TrainConfig, {"model": model_fields(self.args, path)}, type(self.args).__name__).model
        refuse_model(settings, not path)
        seed_everything(self.args.seed)
        policy = load_policy(settings, None if path else model, tokenizer)
        if peft_config is not None:
            policy = _adapted(policy, peft_config)
        if policy.tokenizer is not None and policy.tokenizer.pad_token is None:
            policy.tokenizer.pad_token = policy.tokenizer.eos_token
        return policy

    def _resumes(self, given: str | bool | None) -> bool:
        if not isinstance(given, str | Path):
            return bool(given)
        newest = checkpoints.newest(Path(self.args.output_dir))
        if newest is None or newest.resolve() != Path(given).resolve():
            there = f"the newest checkpoint is {newest}" if newest else f"{self.args.output_dir} has none"
            raise UserError(
                f"cannot resume from {given}: a run goes on from the newest checkpoint of its output_dir, and {there}; pass True"
            )
        return True


REFUSED = {
    "reward_processing_classes": "write a function that asks the reward model",
    "quantization_config": "pass a model object that is quantised already",
    "tools": "write an agent and give it to `burnish train` as rl.thinker",
    "rollout_func": "write an agent and give it to `burnish train` as rl.thinker",
    "environment_factory": "write an agent and give it to `burnish train` as rl.thinker",
    "data_collator": "give rows of text or messages; they are encoded here",
    "compute_loss_func": "the loss is the log-likelihood",
    "compute_metrics": "eval_loss, eval_mean_token_accuracy and eval_entropy are measured; use `burnish eval` for more",
    "optimizer_cls_and_kwargs": "the optimiser is AdamW",
    "preprocess_logits_for_metrics": "logits are never kept",
}
"""Arguments of TRL's trainers that are refused where they are given, and what to do instead."""


def _adapted(policy: Policy, peft_config: Any) -> Policy:
    from peft import PeftConfig, get_peft_model

    if not isinstance(peft_config, PeftConfig):
        raise UserError(f"peft_config is a {type(peft_config).__name__}; it must be a peft config such as peft.LoraConfig")
    if hasattr(policy.model, "peft_config"):
        raise UserError("peft_config is given but the model carries an adapter already; leave one of them out")
    try:
        model = get_peft_model(policy.model, peft_config)
    except ValueError as error:
        raise UserError(f"peft_config does not fit the model: {' '.join(str(error).split())}") from None
    return Policy(model, policy.tokenizer)
