"""TRL's side: its own GRPOTrainer, told nothing but settings, with a clock around its generation."""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

from benchmarks.race import setup
from benchmarks.race.gate import Gate
from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer


@dataclasses.dataclass(frozen=True)
class Flags:
    """What may be chosen freely on TRL's side, for speed alone; `trl_race --settings` tries them."""

    attn_implementation: str = "sdpa"
    cache_implementation: str | None = None
    passes: int = 1  # gradient_accumulation_steps: forward and backward passes one update is cut into
    optim: str = "adamw_torch_fused"
    use_transformers_continuous_batching: bool = False


class Timed(GRPOTrainer):
    """The trainer as it is; `gate` clocks its generation, `frozen` (completion ids) replaces it for the check of agreement."""

    gate: Gate | None = None
    frozen: list[list[int]] | None = None
    seen_loss: float | None = None

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self.frozen is not None:
            return self.frozen, None
        if self.gate is None:
            return super()._generate_single_turn(*args, **kwargs)
        with self.gate.part("generate"):
            ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        lengths = [len(row) for row in ids]
        self.gate.notes.update(mean_length=sum(lengths) / len(lengths), max_length=max(lengths))
        return ids, logprobs

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        self.seen_loss = (self.seen_loss or 0.0) + float(loss)
        return loss


class Ticks(TrainerCallback):
    """The end of an optimiser step, with everything TRL does in it."""

    def __init__(self, gate: Gate):
        self.gate = gate

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.gate.tick()


def config(case: setup.Case, flags: Flags, steps: int, folder: str, **changes: Any) -> GRPOConfig:
    """TRL's configuration; `changes` go over what `_given` says."""
    return GRPOConfig(**(_given(case, flags, steps, folder) | changes))


def _given(case: setup.Case, flags: Flags, steps: int, folder: str) -> dict[str, Any]:
    """Everything that matters, said explicitly."""
    completions = case.prompts * case.group
    return {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
        "tf32": None,
        "per_device_train_batch_size": completions // flags.passes,
        "gradient_accumulation_steps": flags.passes,
        "steps_per_generation": flags.passes,
        "num_generations": case.group,
        "num_iterations": 1,
        "max_completion_length": case.cap,
        "max_steps": steps,
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "beta": 0.0,
        "epsilon": setup.CLIP,
        "epsilon_high": setup.CLIP,
        "scale_rewards": "group",
        "multi_objective_aggregation": "sum_then_normalize",
        "mask_truncated_completions": False,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "learning_rate": setup.LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": setup.MAX_GRAD_NORM,
        "optim": flags.optim,
        "gradient_checkpointing": False,
        "cache_implementation": flags.cache_implementation,
        "use_transformers_continuous_batching": flags.use_transformers_continuous_batching,
        "use_vllm": False,
        "use_liger_kernel": False,
        "torch_compile": False,
        "disable_dropout": False,
        "shuffle_dataset": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "log_completions": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }


def make_trainer(case: setup.Case, flags: Flags, model: Any, tokenizer: Any, args: GRPOConfig, gate: Gate | None = None) -> Timed:
    """The trainer on the race's prompts and reward."""
    model.set_attn_implementation(flags.attn_implementation)
    rows = Dataset.from_list([{"prompt": text} for text in setup.prompts()])
    trainer = Timed(
        model=model,
        reward_funcs=setup.variety,
        args=args,
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[Ticks(gate)] if gate is not None else None,
    )
    trainer.gate = gate
    return trainer


def run(case: setup.Case, flags: Flags, steps: int, gate: Gate) -> None:
    """The whole side: one step for each "go"."""
    model, tokenizer = setup.make_model(case)
    with tempfile.TemporaryDirectory() as folder:
        args = config(case, flags, steps, folder)
        trainer = make_trainer(case, flags, model, tokenizer, args, gate)
        gate.ready(parameters=sum(p.numel() for p in model.parameters()), flags=dataclasses.asdict(flags))
        trainer.train()


def stated(case: setup.Case, flags: Flags) -> dict[str, Any]:
    """TRL's settings as they are in force: those said in `config`, read back from the finished GRPOConfig."""
    with tempfile.TemporaryDirectory() as folder:
        full = config(case, flags, 1, folder)
    names = set(_given(case, flags, 1, "")) - {"output_dir", "max_steps"} | {"generation_batch_size"}
    return {"attn_implementation": flags.attn_implementation, **{name: full.to_dict()[name] for name in sorted(names)}}
