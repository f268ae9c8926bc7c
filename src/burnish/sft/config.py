"""SFTConfig: every setting of supervised fine-tuning, with defaults that suit fine-tuning a pre-trained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pydantic
from pydantic import Field

from burnish.runs import schedules
from burnish.runs.config import Config


class SFTConfig(Config):
    """Settings of `train_sft`. Give `epochs` or `steps`, not both."""

    epochs: float | None = Field(None, gt=0, description="passes over the data (1 where steps is not set either)")
    steps: int | None = Field(None, ge=1, description="optimiser steps, instead of epochs")
    batch_size: int = Field(16, ge=1, description="examples of one optimiser step")
    batch_tokens: int | None = Field(None, ge=1, description="tokens of one optimiser step, instead of batch_size")
    micro_tokens: int = Field(8192, ge=1, description="tokens of one forward pass; changes memory and speed, not the gradient")
    bucketing: bool = Field(True, description="examples of one step have similar lengths")
    packing: bool | Literal["always"] = Field(
        True, description="lay examples end to end without padding where that costs less; they never see each other"
    )

    loss_on: Literal["auto", "completion", "assistant", "all"] = Field("auto", description="which tokens carry loss")
    max_length: int | None = Field(None, ge=2, description="tokens of an example (default: the model's context)")
    too_long: Literal["drop", "truncate", "refuse"] = Field("drop", description="what happens to longer examples; all are counted")

    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (LoRA and tiny models want about 10 to 100 times more)")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="what the learning rate does after the warm-up")
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps in which the learning rate rises from 0")
    final_rate: float = Field(0.0, ge=0, le=1, description="where cosine and linear end, as a share of the peak")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's; biases and norms are left out")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's")
    max_grad_norm: float | None = Field(1.0, gt=0, description="the gradient is clipped to this norm")
    average: float | None = Field(None, ge=0, lt=1, description="decay of a moving average of the weights, used for evaluation and saving")

    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass: less memory, more time")
    bf16: bool = Field(False, description="forward and backward in bfloat16 (weights stay as they are)")
    seed: int = Field(0, ge=0, description="order of the examples")

    eval_steps: int | None = Field(None, ge=1, description="evaluate on the held-out examples every so many steps")
    save_steps: int | None = Field(None, ge=1, description="checkpoint every so many steps (always at the end)")
    save_total_limit: int | None = Field(None, ge=1, description="newest checkpoints kept; the best one stays too")
    metric_for_best: str | None = Field("eval_loss", description="the best checkpoint has the best value of this metric")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a new best")

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> SFTConfig:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps are both set; give one of them")
        if self.patience is not None and (self.eval_steps is None or self.metric_for_best is None):
            raise ValueError("patience needs eval_steps and metric_for_best")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}; both must lie in [0, 1)")
        return self

    @property
    def greater_is_better(self) -> bool:
        """Losses and entropies fall, accuracies rise."""
        return self.metric_for_best is not None and "accuracy" in self.metric_for_best

    def rate(self, total_steps: int) -> Callable[[int], float]:
        """Learning-rate factor of the k-th move (from 0) of `total_steps`: warm-up to 1, then the schedule."""
        return schedules.make(self.schedule, total_steps, self.warmup, self.final_rate)
