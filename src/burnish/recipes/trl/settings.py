"""From TRL's arguments to the one TrainConfig of burnish. Steps are TRL's: optimiser steps."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from burnish.recipes.config import TrainConfig
from burnish.recipes.trl.objective import HERE, objective
from burnish.runs import trackers
from burnish.runs.config import build
from burnish.runs.errors import UserError, did_you_mean

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
BEST = {
    "GRPOConfig": {"reward": "eval/reward"},
    "SFTConfig": {"loss": "eval_loss", "mean_token_accuracy": "eval_mean_token_accuracy"},
}
"""metric_for_best_model without its eval_ -> the name under which it is measured."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """total: optimiser steps. epoch: optimiser steps of one epoch. updates: optimiser steps that share one batch of completions (SFT: 1).

    log, evaluate, save: optimiser steps between two of them, None for never.
    """

    total: int
    epoch: int
    updates: int
    log: int | None
    evaluate: int | None
    save: int | None

    @property
    def rounds(self) -> int:
        """Steps of the burnish run: batches."""
        return self.total // self.updates

    def in_rounds(self, steps: int | None) -> int | None:
        """Optimiser steps as batches, at least 1."""
        return None if steps is None else max(1, round(steps / self.updates))


def steps_of(args: Any, rows: int) -> Steps:
    """The steps that `args` and the number of rows (SFT: examples) come to. Raises UserError."""
    if hasattr(args, "num_generations"):
        prompts = args.generation_batch_size // args.num_generations
        updates = args.steps_per_generation // args.gradient_accumulation_steps * args.num_iterations
        epoch = max(1, rows // prompts) * updates
    else:
        updates, epoch = 1, max(1, math.ceil(rows / (args.per_device_train_batch_size * args.gradient_accumulation_steps)))
    total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)
    if total % updates:
        raise UserError(
            f"{type(args).__name__}: {total} optimiser steps are no multiple of the {updates} that share one batch of completions "
            "(steps_per_generation / gradient_accumulation_steps x num_iterations); set max_steps to a multiple"
        )

    def every(strategy: str, name: str) -> int | None:
        value = getattr(args, name)
        if strategy in ("no", "best"):
            return None
        if strategy == "epoch":
            return epoch
        if value is None or value <= 0:
            raise UserError(f"{type(args).__name__}.{name} is {value!r}; give a number of steps, or a share of all below 1")
        return max(1, math.ceil(value * total)) if value < 1 else int(value)

    evaluation = "logging_steps" if args.eval_strategy == "steps" and not args.eval_steps else "eval_steps"
    return Steps(
        max(total, updates),
        epoch,
        updates,
        every(args.logging_strategy, "logging_steps"),
        every(args.eval_strategy, evaluation),
        every(args.save_strategy, "save_steps"),
    )


def train_config(args: Any, steps: Steps, model: str = "", lora: bool = False) -> TrainConfig:
    """The run's TrainConfig. model: path or hub id, "" for an object. Raises UserError."""
    grpo = hasattr(args, "num_generations")
    fields = {
        "stage": "rl" if grpo else "sft",
        "output": args.output_dir,
        "seed": args.seed,
        "model": model_fields(args, model),
        "trackers": tracker_names(args),
        ("rl" if grpo else "sft"): grpo_fields(args, steps) if grpo else sft_fields(args, steps),
    }
    if grpo:
        fields["sampling"] = {"temperature": args.temperature}
        fields["eval"] = {
            "steps": steps.in_rounds(steps.evaluate),
            "samples": args.num_generations_eval or args.num_generations,
            "temperature": args.temperature,
            "metric_for_best": best_metric(args),
            "greater_is_better": args.greater_is_better is not False,
        }
    return build(TrainConfig, fields, type(args).__name__)


def model_fields(args: Any, path: str) -> dict[str, Any]:
    """Device and dtype; TRL loads a path in float32."""
    given = dict(args.model_init_kwargs or {}) if path else {}
    dtype = str(given.pop("dtype", given.pop("torch_dtype", "float32"))).removeprefix("torch.")
    if given:
        name = next(iter(given))
        raise UserError(f"{type(args).__name__}.model_init_kwargs: {name!r} is not taken here; load the model yourself and pass the object")
    out = {"path": path, "device": str(args.device), "trust_remote_code": args.trust_remote_code}
    out["template_args"] = dict(getattr(args, "chat_template_kwargs", None) or {})
    return out | ({"dtype": dtype} if path else {})


def shared(args: Any, steps: int) -> dict[str, Any]:
    """Optimiser and schedule. steps: all optimiser steps."""
    if args.lr_scheduler_type not in SCHEDULES:
        raise UserError(
            f"{type(args).__name__}.lr_scheduler_type is {args.lr_scheduler_type!r}; {did_you_mean(str(args.lr_scheduler_type), SCHEDULES)}"
        )
    if args.optim not in ("adamw_torch", "adamw_torch_fused"):
        raise UserError(f"{type(args).__name__}.optim is {args.optim!r}, which burnish does not take; use 'adamw_torch'")
    warmup = args.warmup_steps if args.warmup_steps < 1 else args.warmup_steps / steps
    if not 0 <= warmup < 1:
        raise UserError(f"{type(args).__name__}.warmup_steps is {args.warmup_steps}; it must lie below the {steps} steps of the run")
    return {
        "learning_rate": args.learning_rate,
        "schedule": SCHEDULES[args.lr_scheduler_type],
        "warmup": 0.0 if args.lr_scheduler_type == "constant" else warmup,
        "weight_decay": args.weight_decay,
        "betas": (args.adam_beta1, args.adam_beta2),
        "epsilon": args.adam_epsilon,
        "max_grad_norm": args.max_grad_norm or None,
        "save_total_limit": args.save_total_limit,
    }


def grpo_fields(args: Any, steps: Steps) -> dict[str, Any]:
    """RLConfig's fields."""
    if args.max_completion_length is None:
        raise UserError("GRPOConfig.max_completion_length is None; give the longest completion in tokens")
    return shared(args, steps.total) | {
        "steps": steps.rounds,
        "save_steps": steps.in_rounds(steps.save),
        "prompts_per_step": args.generation_batch_size // args.num_generations,
        "group_size": args.num_generations,
        "max_new_tokens": args.max_completion_length,
        "curriculum": "shuffled_epochs" if args.shuffle_dataset in (True, None) else f"{HERE}:InOrder",
        "weights": tuple(args.reward_weights or ()),
        "success_above": None,
        "filters": (),
        "shapers": (f"{HERE}:MaskTruncated",) if args.mask_truncated_completions else (),
        "objective": objective(args),
        "minibatches": args.steps_per_generation // args.gradient_accumulation_steps,
        "epochs": args.num_iterations,
    }


def sft_fields(args: Any, steps: Steps) -> dict[str, Any]:
    """SFTConfig's fields. The examples are made in `sft_examples`, so those of the data are left out."""
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    best = best_metric(args)
    if args.greater_is_better is not None and best and args.greater_is_better is not ("accuracy" in best):
        raise UserError(f"SFTConfig.greater_is_better is {args.greater_is_better}, but {best} is better the other way; leave it out")
    return shared(args, steps.total) | {
        "steps": steps.total,
        "save_steps": steps.save,
        "batch_size": batch,
        "batch_tokens": batch * args.max_length if args.packing else None,
        "bucketing": args.train_sampling_strategy == "group_by_length",
        "max_length": args.max_length,
        "too_long": "truncate",
        "bf16": args.autocast,
        "seed": args.seed,
        "eval_steps": steps.evaluate,
        "metric_for_best": best,
    }


def best_metric(args: Any) -> str | None:
    """The metric that picks the best checkpoint, under burnish's name; None where none is asked for."""
    known = BEST[type(args).__name__]
    wanted = args.metric_for_best_model
    if wanted is None and not (args.load_best_model_at_end or args.save_strategy == "best"):
        return None
    name = str(wanted or next(iter(known))).removeprefix("eval_")
    if args.eval_strategy == "no":
        if wanted and not args.load_best_model_at_end:
            return None
        raise UserError(f"{type(args).__name__}: the best checkpoint is asked for but eval_strategy is 'no'; set it to 'steps' or 'epoch'")
    if name not in known:
        raise UserError(
            f"{type(args).__name__}.metric_for_best_model is {wanted!r}; measured are {', '.join('eval_' + key for key in known)}"
        )
    return known[name]


def tracker_names(args: Any) -> tuple[str, ...]:
    """report_to as a tuple; "all" are those that are installed. Raises UserError for one that is unknown."""
    import importlib.util

    given = args.report_to
    wanted = [given] if isinstance(given, str) else list(given or ())
    if "all" in wanted:
        return tuple(name for name in trackers.NAMES if importlib.util.find_spec(name) is not None)
    return tuple(trackers.check([name for name in wanted if name]))
