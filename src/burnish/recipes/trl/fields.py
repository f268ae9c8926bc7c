"""The fields that TRL's trainer arguments share (those of `transformers.TrainingArguments`), their defaults, and what becomes of each."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Fate = Literal["mapped", "no effect", "refused"]
Json = dict | str | None


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a trainer's arguments.

    fate: "mapped": it does what it does in TRL; "no effect": it is accepted, and what is learned does not depend on it here;
    "refused": any value but the default is a UserError. note: to what it is mapped, why it has no effect, or what to do instead.
    """

    name: str
    kind: Any
    default: Any
    fate: Fate
    note: str


def mapped(name: str, kind: Any, default: Any, note: str) -> Field:
    """A field that does here what it does in TRL."""
    return Field(name, kind, default, "mapped", note)


def idle(name: str, kind: Any, default: Any, note: str) -> Field:
    """A field that is accepted and changes nothing that is learned."""
    return Field(name, kind, default, "no effect", note)


def refused(name: str, kind: Any, default: Any, note: str) -> Field:
    """A field that may only keep its default."""
    return Field(name, kind, default, "refused", note)


LAUNCH = "this is one process; use `burnish train` with `accelerate launch` for several"
ONE = "this is one process"
HUB = "publish the finished run with `burnish export`"
LOADER = "there is no data loader: rows are read once, and batches follow from the seed"
ROWS = "rows are never dropped; leave it out, or cut the data set"

COMMON: tuple[Field, ...] = (
    mapped("output_dir", str | None, None, "the run folder; default trainer_output"),
    mapped("per_device_train_batch_size", int, 8, "times gradient_accumulation_steps: examples, or completions, of one optimiser step"),
    mapped("num_train_epochs", float, 3.0, "steps, where max_steps is not set"),
    mapped("max_steps", int, -1, "optimiser steps"),
    mapped("learning_rate", float, 5e-5, "learning_rate"),
    mapped("lr_scheduler_type", str, "linear", "schedule: linear, cosine, constant or constant_with_warmup; others are refused"),
    refused("lr_scheduler_kwargs", Json, None, "the schedules here have no parameters but the warm-up"),
    mapped("warmup_steps", float, 0, "warmup: steps, or a share below 1; the first step's rate is 1 / (warm-up + 1) of the peak, in TRL 0"),
    mapped("optim", str, "adamw_torch_fused", "AdamW; adamw_torch is the same, others are refused"),
    refused("optim_args", str | None, None, "set adam_beta1, adam_beta2, adam_epsilon and weight_decay"),
    mapped("weight_decay", float, 0.0, "weight_decay; GRPO decays biases and norms too, which TRL leaves out"),
    mapped("adam_beta1", float, 0.9, "betas"),
    mapped("adam_beta2", float, 0.999, "betas"),
    mapped("adam_epsilon", float, 1e-8, "epsilon"),
    refused("optim_target_modules", str | None, None, "it belongs to GaLore and APOLLO, which are not here"),
    mapped("gradient_accumulation_steps", int, 1, "times per_device_train_batch_size; how a step is cut never changes its gradient"),
    idle("average_tokens_across_devices", bool, True, "a step always has one denominator over all processes"),
    mapped("max_grad_norm", float | None, 1.0, "max_grad_norm; 0 or None: no clipping"),
    refused("label_smoothing_factor", float, 0.0, "train on the plain log-likelihood"),
    mapped("bf16", bool | None, None, "SFT: bfloat16 autocast where it is True, or unset on an accelerator or with use_cpu; GRPO: float32"),
    refused("fp16", bool, False, "use bf16, which needs no loss scaling"),
    idle("bf16_full_eval", bool, False, "evaluation computes in the dtype of training"),
    idle("fp16_full_eval", bool, False, "evaluation computes in the dtype of training"),
    idle("tf32", bool | None, None, "set torch.backends.cuda.matmul.allow_tf32 yourself"),
    mapped("activation_checkpointing", bool | None, None, "the same as gradient_checkpointing"),
    idle("activation_checkpointing_kwargs", Json, None, "checkpointing is always non-reentrant"),
    mapped("gradient_checkpointing", bool, True, "gradient_checkpointing, where the model can; less memory, the same gradient"),
    idle("gradient_checkpointing_kwargs", Json, None, "checkpointing is always non-reentrant"),
    idle("torch_compile", bool, False, "nothing is compiled"),
    idle("torch_compile_backend", str | None, None, "nothing is compiled"),
    idle("torch_compile_mode", str | None, None, "nothing is compiled"),
    idle("use_liger_kernel", bool, False, "log-probs are computed in chunks in any case"),
    idle("liger_kernel_config", Json, None, "log-probs are computed in chunks in any case"),
    idle("use_cache", bool, False, "training never uses the cache, generation always does"),
    refused("neftune_noise_alpha", float | None, None, "there is no noise on the embeddings"),
    idle("torch_empty_cache_steps", int | None, None, "memory only"),
    idle("auto_find_batch_size", bool, False, "a step is cut into passes of bounded size"),
    mapped("logging_strategy", str, "steps", "no, steps or epoch"),
    mapped("logging_steps", float, 10, "steps between two rows of log_history, or a share of all; metrics.jsonl has every step"),
    mapped("logging_first_step", bool, False, "a row for step 1"),
    idle("log_on_each_node", bool, True, "the first process logs"),
    idle("logging_nan_inf_filter", bool, True, "a step without a finite gradient is skipped and counted"),
    idle("include_num_input_tokens_seen", str, "no", "num_tokens is always logged"),
    idle("log_level", str, "passive", "set Python's logging"),
    idle("log_level_replica", str, "warning", "set Python's logging"),
    mapped("disable_tqdm", bool | None, None, "True: no progress bar and no printed rows"),
    mapped("report_to", None | str | list[str], "none", "trackers: tensorboard, wandb, trackio or all of these that are installed"),
    idle("run_name", str | None, None, "a run is named by its folder"),
    idle("project", str, "huggingface", "trackers use the project 'burnish'"),
    refused("trackio_space_id", str | None, None, "trackio logs on this machine; publish from there"),
    refused("trackio_bucket_id", str | None, None, "trackio logs on this machine; publish from there"),
    refused("trackio_static_space_id", str | None, None, "trackio logs on this machine; publish from there"),
    mapped("eval_strategy", str, "no", "no, steps or epoch"),
    mapped("eval_steps", float | None, None, "steps between two evaluations, or a share of all; unset: logging_steps"),
    refused("eval_delay", float, 0, "evaluations come every eval_steps from the start"),
    idle("per_device_eval_batch_size", int, 8, "speed only"),
    idle("prediction_loss_only", bool, False, "no predictions are returned"),
    mapped("eval_on_start", bool, False, "an evaluation before the first step"),
    idle("eval_do_concat_batches", bool, True, "no predictions are returned"),
    idle("eval_use_gather_object", bool, False, "no predictions are returned"),
    idle("eval_accumulation_steps", int | None, None, "no predictions are returned"),
    refused("include_for_metrics", list[str] | None, None, "there is no compute_metrics"),
    refused("batch_eval_metrics", bool, False, "there is no compute_metrics"),
    idle("save_only_model", bool, False, "checkpoints can always be resumed"),
    mapped("save_strategy", str, "steps", "no, steps, epoch or best; the last step is saved in any case"),
    mapped("save_steps", float, 500, "steps between two checkpoints, or a share of all"),
    idle("save_on_each_node", bool, False, "the first process saves"),
    mapped("save_total_limit", int | None, None, "newest checkpoints kept; the best stays too"),
    idle("enable_jit_checkpoint", bool, False, "SIGTERM always ends in a checkpoint"),
    refused("push_to_hub", bool, False, HUB),
    refused("hub_token", str | None, None, HUB),
    refused("hub_private_repo", bool | None, None, HUB),
    refused("hub_model_id", str | None, None, HUB),
    idle("hub_strategy", str, "every_save", "nothing is pushed"),
    idle("hub_always_push", bool, False, "nothing is pushed"),
    refused("hub_revision", str | None, None, HUB),
    mapped("load_best_model_at_end", bool, False, "the model ends with the best checkpoint's weights"),
    mapped("metric_for_best_model", str | None, None, "GRPO: eval_reward; SFT: eval_loss or eval_mean_token_accuracy"),
    mapped("greater_is_better", bool | None, None, "unset: by the metric; SFT: only as the metric wants it"),
    idle("ignore_data_skip", bool, False, "a resumed run goes on with the next rows at once"),
    idle("restore_callback_states_from_checkpoint", bool, False, "callbacks keep no state here"),
    idle("full_determinism", bool, False, "runs on the CPU repeat bit for bit in any case"),
    mapped("seed", int, 42, "seed"),
    refused("data_seed", int | None, None, "everything random follows from seed"),
    mapped("use_cpu", bool, False, "device: the CPU even where there is an accelerator"),
    refused("accelerator_config", str | None, None, LAUNCH),
    refused("parallelism_config", str | None, None, LAUNCH),
    refused("dataloader_drop_last", bool, False, ROWS),
    idle("dataloader_num_workers", int, 0, LOADER),
    idle("dataloader_pin_memory", bool, True, LOADER),
    idle("dataloader_persistent_workers", bool, False, LOADER),
    idle("dataloader_prefetch_factor", int | None, None, LOADER),
    idle("dataloader_multiprocessing_context", str | None, None, LOADER),
    idle("dataloader_in_order", bool, True, LOADER),
    idle("remove_unused_columns", bool | None, True, "all columns reach the reward functions"),
    idle("label_names", list[str] | None, None, "labels follow from the data format"),
    mapped("train_sampling_strategy", str, "random", "SFT: group_by_length puts like lengths together; sequential is refused"),
    idle("length_column_name", str, "length", "lengths are counted"),
    idle("ddp_find_unused_parameters", bool | None, None, ONE),
    idle("ddp_bucket_cap_mb", int | None, None, ONE),
    idle("ddp_broadcast_buffers", bool | None, None, ONE),
    idle("ddp_static_graph", bool | None, None, ONE),
    idle("ddp_backend", str | None, None, ONE),
    idle("ddp_timeout", int, 1800, ONE),
    refused("fsdp", str | None, None, LAUNCH),
    refused("fsdp_config", str | None, None, LAUNCH),
    refused("deepspeed", str | None, None, LAUNCH),
    idle("debug", str, "", "set the library's own debug switches"),
    idle("skip_memory_metrics", bool, True, "memory/peak_mb is always logged"),
    idle("do_train", bool, False, "for scripts' own use"),
    idle("do_eval", bool, False, "for scripts' own use"),
    idle("do_predict", bool, False, "for scripts' own use"),
    mapped("resume_from_checkpoint", str | None, None, "for scripts' own use; hand it to train()"),
    idle("local_rank", int, -1, "for launchers"),
    mapped("model_init_kwargs", Json, None, "model.dtype; anything but dtype is refused: load the model yourself and pass the object"),
    mapped("trust_remote_code", bool, False, "model.trust_remote_code"),
    refused("router_aux_loss_coef", float | None, None, "mixtures of experts have no auxiliary loss here"),
    idle("pad_to_multiple_of", str | None, "auto", "padding is never read"),
)
