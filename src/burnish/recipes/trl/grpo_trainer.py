"""GRPOTrainer with TRL's arguments, on burnish's own Source and Learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from burnish.data.items import Items, to_items
from burnish.data.rows import Rows
from burnish.models.eval_mode import switch_checkpointing
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import require_end
from burnish.recipes.refusals import refuse_impossible
from burnish.recipes.rl import build_trainer
from burnish.recipes.start_facts import write_start
from burnish.recipes.train import warn_of_idle_steps, write_data_report
from burnish.recipes.trl.arguments import GRPOConfig
from burnish.recipes.trl.history import History, eval_names
from burnish.recipes.trl.metrics import batch_metrics, eval_metrics
from burnish.recipes.trl.settings import Steps, steps_of, train_config
from burnish.recipes.trl.trainer import Trainer
from burnish.records import Limits, Sampling
from burnish.rl.batch import Batch
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.rewards.weighted import Weighted
from burnish.runs import checkpoints
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.tasks.completions import Completions
from burnish.tasks.evaluation import evaluate


class Reward(TRLReward):
    """A TRL reward function that is shown the trainer's own state. The names it logs are kept in the trainer's history."""

    def __init__(self, function: Callable[..., Any], decode: Any, history: Callable[[], History]) -> None:
        super().__init__(function, decode)
        self._history = history

    def _arguments(self, group: Completions, extras: dict[str, list[Any]]) -> dict[str, Any]:
        return super()._arguments(group, extras) | {"trainer_state": self._history().state}

    def metrics(self) -> dict[str, float]:
        """What `log_metric` was given."""
        found = super().metrics()
        self._history().own |= set(found)
        return found


class GRPOTrainer(Trainer):
    """TRL's GRPOTrainer: same arguments, same defaults, the same gradient for the same completions; see docs/from_trl.md.

    model: a folder, hub id or model object. reward_funcs: a function in TRL's signature or a list of them; it is called once for each
    prompt, with that prompt's completions. train_dataset: rows with a column "prompt" (text or messages); other columns reach the rewards.
    Raises UserError for what burnish does not take.
    """

    config_class = GRPOConfig

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        reward_processing_classes: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: Sequence[Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
    ) -> None:
        given = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
        for function in given:
            if isinstance(function, str | torch.nn.Module):
                raise UserError(
                    "GRPOTrainer.reward_funcs: reward models are not run here; write a function (prompts, completions, **columns) "
                    "that asks the model"
                )
            if not callable(function):
                raise UserError(f"GRPOTrainer.reward_funcs is {function!r}; give a function (prompts, completions, **columns), or a list")
        self.reward_funcs = given
        refused = {"reward_processing_classes": reward_processing_classes, "quantization_config": quantization_config}
        refused |= {"tools": tools or None, "rollout_func": rollout_func, "environment_factory": environment_factory}
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, optimizers, peft_config, refused)
        self.trained: Any = None
        self._tokens: float | None = None

    def prepare(self) -> None:
        """Items of the rows, and the rewards as one."""
        require_end(self.policy)
        self.items = self._items(self.rows, self.args.num_generations)
        rewards = [Reward(function, self.policy.decode, lambda: self.history) for function in self.reward_funcs]
        weights = self.args.reward_weights
        if weights is not None and len(weights) != len(rewards):
            raise UserError(f"GRPOConfig.reward_weights has {len(weights)} numbers for {len(rewards)} reward functions; give one for each")
        self.reward = Weighted(rewards, weights or None, self.policy.decode)

    def _items(self, rows: Rows, group: int) -> Items:
        args = self.args
        limits = Limits(max_new_tokens=args.max_completion_length or 1)
        return to_items(rows, self.policy, group, limits, dict(args.chat_template_kwargs or {}))

    def count_steps(self) -> Steps:
        """Batches times the optimiser steps of each."""
        return steps_of(self.args, len(self.items))

    def make_config(self, path: str) -> TrainConfig:
        """Checked as a whole, before anything is drawn."""
        config = train_config(self.args, self.steps, path)
        checked = config.model_copy(update={"eval": config.eval.model_copy(update={"steps": None})})  # the held-out rows are objects
        refuse_impossible(checked, True, self.reward, True)
        return config

    def build(self, run: Run, trackers: Sequence[Any], progress: Any) -> Any:
        """The RL trainer that `train` runs."""
        held_out = None if self.held_out is None else self._items(self.held_out, 1)
        write_data_report(run, {"rows": self.rows.report, "train": self.items.report, "eval": held_out.report if held_out else None})
        write_start(run, self.config, self.policy, self.rows, self.held_out, self.items)
        trainer = build_trainer(
            self.config, self.policy, self.items, held_out or [], run, self.reward, trackers=trackers, progress=progress
        )
        trainer.loop.eval_first, trainer.loop.stop_check = self.args.eval_on_start, self.history.stop_check
        if trainer.loop.eval_fn is not None:
            trainer.loop.eval_fn = lambda step: self._evaluation(held_out, trainer.queue.source.engine, step)
        trainer.observers = (*trainer.observers, self._observe)
        return trainer

    def run(self, run: Run, trackers: Sequence[Any], progress: Any) -> dict[str, Any]:
        """Source and Learner until the last step."""
        self._folder, self._tokens = run, None
        self.trained = trainer = self.build(run, trackers, progress)
        checkpointing = self.args.gradient_checkpointing and getattr(self.model, "supports_gradient_checkpointing", False)
        if checkpointing:
            switch_checkpointing(self.model, True)
        try:
            result = trainer.run()
        finally:
            if checkpointing:
                switch_checkpointing(self.model, False)
        warn_of_idle_steps(run.metrics())
        if self.args.load_best_model_at_end and result.best_step not in (None, result.step):
            trainer.loop.group_set.load_state_dict(checkpoints.load(checkpoints.path_of(run.path, result.best_step))["groups"])
        return {"best_step": result.best_step}

    def _observe(self, batch: Batch, metrics: dict[str, float]) -> None:
        """TRL's own figures of the batch; `num_tokens` counts on over a resumption."""
        if self._tokens is None:
            rows = [row for row in self._folder.metrics() if "num_tokens" in row]
            self._tokens = float(rows[-1]["num_tokens"]) if rows else 0.0
        found = batch_metrics(batch)
        self._tokens = tokens = self._tokens + found.pop("tokens")
        metrics["num_tokens"] = tokens
        self.history.batch = found | {"num_tokens": tokens}

    def samples_per_step(self) -> int:
        """Completions of one batch."""
        return int(self.args.generation_batch_size)

    def measure(self, held_out: Any) -> dict[str, float]:
        """Rewards and lengths of completions drawn from the present weights."""
        return eval_names(self._evaluation(self._items(held_out, 1), None, 0))

    def _evaluation(self, items: Any, engine: Any, step: int) -> dict[str, float]:
        args = self.args
        if engine is not None:
            engine.refresh(step)
        found = evaluate(
            self.policy,
            items,
            self.reward,
            samples=args.num_generations_eval or args.num_generations,
            sampling=Sampling(temperature=args.temperature),
            seed=args.seed,
            engine=engine,
            template_args=dict(args.chat_template_kwargs or {}),
        )
        own = {f"eval/{name}": value for name, value in self.reward.metrics().items()}  # what log_metric was given
        return eval_metrics(found) | own
