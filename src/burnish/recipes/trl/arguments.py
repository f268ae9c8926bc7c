"""GRPOConfig and SFTConfig: TRL's names and defaults. A field that cannot be honoured is refused by name when it is set."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from typing import TYPE_CHECKING, Any

import torch

from burnish.recipes.trl.fields import COMMON, Field, Json
from burnish.recipes.trl.fields_grpo import GRPO
from burnish.recipes.trl.fields_sft import SFT
from burnish.runs.errors import UserError, did_you_mean

STRATEGIES = ("no", "steps", "epoch")


def fields_of(name: str) -> dict[str, Field]:
    """All fields of "GRPOConfig" or "SFTConfig", by name: the common ones, with the trainer's own in their place."""
    own = GRPO if name == "GRPOConfig" else SFT
    return {field.name: field for field in (*COMMON, *own)}


class Arguments:
    """What both argument classes share: checks at the start, and the few properties that scripts read."""

    output_dir: Any
    do_eval: Any
    gradient_checkpointing: Any
    metric_for_best_model: Any
    greater_is_better: Any
    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __post_init__(self) -> None:
        for name, field in fields_of(type(self).__name__).items():
            value = getattr(self, name)
            if field.kind == Json and isinstance(value, str) and value.startswith("{"):
                setattr(self, name, value := json.loads(value))
            value = getattr(value, "value", value)  # the enumerations of transformers
            if field.fate == "refused" and value != field.default and value not in (None, [], {}, ""):
                raise UserError(f"{type(self).__name__}.{name} is {value!r}, which burnish does not take; {field.note}")
            if isinstance(field.default, str) and not isinstance(value, type(getattr(self, name))):
                setattr(self, name, value)
        self.output_dir = str(self.output_dir or "trainer_output")
        if self.activation_checkpointing is not None:
            self.gradient_checkpointing = self.activation_checkpointing
        for name in ("logging_strategy", "eval_strategy", "save_strategy"):
            known = (*STRATEGIES, "best") if name == "save_strategy" else STRATEGIES
            if getattr(self, name) not in known:
                raise UserError(f"{type(self).__name__}.{name} is {getattr(self, name)!r}; {did_you_mean(str(getattr(self, name)), known)}")
        self.do_eval = self.do_eval or self.eval_strategy != "no"
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "reward" if isinstance(self, _GRPO) else "loss"
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        self._check()

    def _check(self) -> None:
        """The trainer's own questions."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        if not self.use_cpu and torch.cuda.is_available():
            return torch.device("cuda")
        if not self.use_cpu and torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    @property
    def autocast(self) -> bool:
        """bfloat16, as `bf16` says; unset: on an accelerator, and on the CPU where use_cpu asks for it."""
        return bool(self.bf16) if self.bf16 is not None else self.use_cpu or self.device.type != "cpu"

    @property
    def world_size(self) -> int:
        """Processes, as a launcher says."""
        return int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def process_index(self) -> int:
        """Number of this process."""
        return int(os.environ.get("RANK", "0"))

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]


class _GRPO(Arguments):
    scale_rewards: Any
    generation_batch_size: Any
    steps_per_generation: Any

    def _check(self) -> None:
        self.scale_rewards = {True: "group", False: "none"}.get(self.scale_rewards, self.scale_rewards)
        if self.generation_batch_size is not None and self.steps_per_generation is not None:
            raise UserError("GRPOConfig: generation_batch_size and steps_per_generation are both set; give one of them")
        batch = self.per_device_train_batch_size * self.world_size
        if self.generation_batch_size is None:
            self.steps_per_generation = self.steps_per_generation or self.gradient_accumulation_steps
            self.generation_batch_size = batch * self.steps_per_generation
        elif self.generation_batch_size % batch:
            raise UserError(
                f"GRPOConfig.generation_batch_size is {self.generation_batch_size}; it must be a multiple of the "
                f"{batch} completions of per_device_train_batch_size"
            )
        else:
            self.steps_per_generation = self.generation_batch_size // batch
        if self.num_generations < 2:
            raise UserError(f"GRPOConfig.num_generations is {self.num_generations}; advantages compare at least 2 completions of a prompt")
        if self.generation_batch_size % self.num_generations:
            raise UserError(
                f"GRPOConfig: the {self.generation_batch_size} completions of a step (per_device_train_batch_size x steps_per_generation) "
                f"do not divide into groups of num_generations {self.num_generations}; change one of them"
            )
        if self.steps_per_generation % self.gradient_accumulation_steps:
            raise UserError(
                f"GRPOConfig.steps_per_generation is {self.steps_per_generation}; it must be a multiple of "
                f"gradient_accumulation_steps {self.gradient_accumulation_steps}, so that an update learns from one batch of completions"
            )


class _SFT(Arguments):
    def _check(self) -> None:
        if self.packing and self.packing_strategy != "bfd":
            raise UserError(f"SFTConfig.packing_strategy is {self.packing_strategy!r}; only 'bfd' keeps examples whole, so use that")
        if self.packing and self.max_length is None:
            raise UserError("SFTConfig.packing needs max_length; set it")
        if self.truncation_mode not in ("keep_start", "keep_end"):
            raise UserError(f"SFTConfig.truncation_mode is {self.truncation_mode!r}; it must be 'keep_start' or 'keep_end'")
        if self.loss_type not in ("nll", "chunked_nll"):
            raise UserError(f"SFTConfig.loss_type is {self.loss_type!r}, which burnish does not take; use 'nll'")
        if self.train_sampling_strategy == "sequential":
            raise UserError("SFTConfig.train_sampling_strategy 'sequential' is not there; use 'random' or 'group_by_length'")


def _make(name: str, base: type[Arguments], doc: str) -> type[Any]:
    def default(field: Field) -> Any:
        return dataclasses.field(default=field.default, metadata={"help": field.note})

    rows = [(field.name, field.kind, default(field)) for field in fields_of(name).values()]
    made = dataclasses.make_dataclass(name, rows, bases=(base,), namespace={"__doc__": doc, "__module__": __name__})
    plain = made.__init__  # type: ignore[misc]

    @functools.wraps(plain)
    def checked(self: Any, *args: Any, **given: Any) -> None:
        for key in given:
            if key not in fields_of(name):
                raise UserError(f"{name} has no field {key!r}; {did_you_mean(key, fields_of(name))}")
        plain(self, *args, **given)

    made.__init__ = checked  # type: ignore[misc]
    return made


DOC = "Arguments of {}Trainer under TRL's names, with TRL's defaults; see docs/from_trl.md. Raises UserError."
GRPOConfig = _make("GRPOConfig", _GRPO, DOC.format("GRPO"))
SFTConfig = _make("SFTConfig", _SFT, DOC.format("SFT"))


def table(name: str) -> str:
    """The fields and what becomes of each, as a Markdown table."""
    lines = ["| field | default | fate | |", "|---|---|---|---|"]
    for field in sorted(fields_of(name).values(), key=lambda one: one.name):
        lines.append(f"| `{field.name}` | `{field.default!r}` | {field.fate} | {field.note} |")
    return "\n".join(lines) + "\n"
