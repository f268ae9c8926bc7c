"""SFTTrainer with TRL's arguments, on burnish's own fine-tuning loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from burnish.data.examples import Example, Examples
from burnish.data.formats import load_rows
from burnish.data.rows import Rows
from burnish.recipes.config import TrainConfig
from burnish.recipes.start_facts import write_start
from burnish.recipes.train import write_data_report
from burnish.recipes.trl.arguments import SFTConfig
from burnish.recipes.trl.settings import Steps, steps_of, train_config
from burnish.recipes.trl.sft_examples import to_trl_examples
from burnish.recipes.trl.trainer import Trainer
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.sft.batches import Batches
from burnish.sft.step import Stepper
from burnish.sft.train import train_sft

ROLES = {"human": "user", "gpt": "assistant"}


class SFTTrainer(Trainer):
    """TRL's SFTTrainer: same arguments, same defaults, the same gradient for the same rows; see docs/from_trl.md.

    model: a folder, hub id or model object. train_dataset: rows of prompt and completion, messages or text. formatting_func: row -> text.
    Raises UserError for what burnish does not take.
    """

    config_class = SFTConfig

    def __init__(
        self,
        model: Any,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_loss_func: Any = None,
        compute_metrics: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: Sequence[Any] = (None, None),
        optimizer_cls_and_kwargs: Any = None,
        preprocess_logits_for_metrics: Any = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        formatting_func: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.formatting_func = formatting_func
        self._text = getattr(args, "dataset_text_field", "text")
        if formatting_func is not None and getattr(args, "completion_only_loss", None):
            raise UserError("SFTTrainer: formatting_func makes plain text, which has no completion; leave out completion_only_loss")
        refused = {"data_collator": data_collator, "compute_loss_func": compute_loss_func, "compute_metrics": compute_metrics}
        refused |= {"optimizer_cls_and_kwargs": optimizer_cls_and_kwargs, "quantization_config": quantization_config}
        refused |= {"preprocess_logits_for_metrics": preprocess_logits_for_metrics}
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, optimizers, peft_config, refused)

    def read(self, dataset: Any) -> Rows:
        """Rows of one of TRL's formats; `conversations` and another text column are brought into it."""
        return load_rows(dataset, map=self._row)

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.formatting_func is not None:
            return {"text": self.formatting_func(row)}
        if "conversations" in row:
            turns = row.pop("conversations")
            row["messages"] = [
                turn if "role" in turn else {"role": ROLES.get(turn["from"], turn["from"]), "content": turn["value"]} for turn in turns
            ]
        if self._text != "text" and self._text in row and not {"messages", "prompt"} & set(row):
            row["text"] = row[self._text]
        return row

    def prepare(self) -> None:
        """Examples of the rows."""
        self.examples = to_trl_examples(self.rows, self.policy, self.args)
        self.eval_examples = None if self.held_out is None else to_trl_examples(self.held_out, self.policy, self.args)

    def count_steps(self) -> Steps:
        """Of the examples; with packing, of what fits into a step."""
        args = self.args
        if not args.packing or args.max_steps > 0:
            return steps_of(args, len(self.examples))
        size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        lengths = [len(one.ids) for one in self.examples]
        batches = Batches(lengths, 1, size * args.max_length, args.seed, args.train_sampling_strategy == "group_by_length")
        return steps_of(args, batches.steps_in(1) * size)

    def make_config(self, path: str) -> TrainConfig:
        """The run's config; gradient checkpointing where the model can."""
        config = train_config(self.args, self.steps, path)
        wanted = self.args.gradient_checkpointing and getattr(self.model, "supports_gradient_checkpointing", False)
        return config.model_copy(update={"sft": config.sft.model_copy(update={"gradient_checkpointing": bool(wanted)})})

    def run(self, run: Run, trackers: Sequence[Any], progress: Any) -> dict[str, Any]:
        """The fine-tuning loop until the last step."""
        held_out = self.eval_examples if self.steps.evaluate else None
        write_data_report(run, {"rows": self.rows.report, "train": self.examples.report, "eval": held_out.report if held_out else None})
        write_start(run, self.config, self.policy, self.rows, self.held_out, self.examples)
        return train_sft(
            self.policy,
            self.examples,
            self.config.sft,
            run,
            held_out,
            trackers=trackers,
            progress=progress,
            stop_check=self.history.stop_check,
        )

    def measure(self, held_out: Any) -> dict[str, float]:
        """eval_loss, eval_mean_token_accuracy and eval_entropy of the present weights."""
        known = held_out is self.held_out and self.eval_examples is not None
        examples: Examples | list[Example] = (self.eval_examples or []) if known else to_trl_examples(held_out, self.policy, self.args)
        sft = self.config.sft
        return Stepper(self.policy, sft.micro_tokens, sft.packing, sft.bf16).measure(examples).metrics("eval_")
