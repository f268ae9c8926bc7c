"""The one configuration of `burnish train`: the same fields in Python, YAML and flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.data.config import DataConfig
from burnish.models.lora import LoraConfig
from burnish.recipes import papers
from burnish.records import Sampling
from burnish.rl.temperature import TemperatureConfig
from burnish.runs.config import FREE_FIELDS, Config
from burnish.sft.config import SFTConfig

Part = str | dict[str, Any]
"""A part by name ("uniform", "module.name", "file.py:name") or as {"name": ..., its own arguments}."""


class ModelConfig(Config):
    """Which model, and how it is trained."""

    path: str = Field("", description="local folder, hub id or adapter folder")
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = Field("float32", description="dtype of weights and activations")
    head_dtype: Literal["model", "float32"] = Field("model", description="float32: the output layer's product, sampling and training alike")
    device: str | None = Field(None, description="where it computes: cpu, cuda, cuda:1 ...; unset: the CPU, a model object where it is")
    adapter: str | None = Field(None, description="PEFT adapter folder to continue from")
    lora: LoraConfig | None = Field(None, description="train a LoRA adapter instead of all weights")
    quantize: Literal["none", "nf4", "fp4"] | None = Field(
        None, description="load the base in 4 bit under an adapter (extra quant); unset: as the adapter was trained, else none"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass")
    trust_remote_code: bool = Field(False, description="run code that comes with the model (leave off)")
    template_args: dict[str, Any] = Field(default_factory=dict, description="handed to the chat template, e.g. {enable_thinking: false}")


class SamplingConfig(Config):
    """How completions are drawn."""

    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_k: int = Field(0, ge=0, description="0 keeps all tokens")
    top_p: float = Field(1.0, gt=0, le=1, description="1 keeps all tokens")
    min_p: float = Field(0.0, ge=0, lt=1, description="0 keeps all tokens")
    stop: tuple[str, ...] = Field((), description="strings that end a completion")

    def sampling(self) -> Sampling:
        """The record the engine takes."""
        return Sampling(**self.model_dump())


class EvalConfig(Config):
    """Held-out evaluation of RL runs; SFT runs measure their held-out loss (see `sft`)."""

    steps: int | None = Field(None, ge=1, description="evaluate every so many steps, and before the first; unset: never")
    rows: int = Field(0, ge=0, description="rows of the training file set aside for evaluation, drawn by seed")
    path: str | None = Field(None, description="a file of its own for evaluation, instead of rows; read like data.path")
    limit: int | None = Field(None, ge=1, description="evaluate on the first so many held-out rows only")
    samples: int = Field(1, ge=1, description="completions for each prompt")
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    metric_for_best: str | None = Field("eval/reward", description="the best checkpoint has the best value of it; or eval/success ...")
    greater_is_better: bool = Field(True, description="False where a lower metric is better")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a new best")
    baselines: dict[str, str] = Field({}, description="name -> model folder, evaluated once and drawn as a line in the plot")


class RLConfig(Config):
    """One value for each of the five questions."""

    recipe: str | None = Field(None, description="a paper's recipe (dapo, scalerl, hero ...): its values where you set none of your own")
    steps: int = Field(100, ge=1, description="batches to learn from")
    learning_rate: float = Field(1e-6, gt=0, description="peak learning rate (LoRA and tiny models want about 10 to 1000 times more)")
    critic_learning_rate: float | None = Field(None, gt=0, description="the critic's, for objectives with one; unset: learning_rate")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="what follows the warm-up")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the updates in which the learning rate rises from 0")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's")
    max_grad_norm: float | None = Field(1.0, gt=0, description="gradients are clipped to this norm")
    prompts_per_step: int = Field(8, ge=1, description="groups of one step")
    group_size: int = Field(8, ge=1, description="completions for each prompt")
    max_new_tokens: int = Field(256, ge=1, description="longest completion, in tokens")
    curriculum: Part = Field("shuffled_epochs", description="which problem comes next")
    thinker: Part = Field("single", description="how the policy thinks")
    rewards: tuple[Part, ...] = Field((), description="what is good; several are added up (see weights)")
    weights: tuple[float, ...] = Field((), description="one weight for each reward; empty: all 1")
    success_above: float | None = Field(1.0, description="a value of your reward function at or above this is a success; null: unknown")
    shapers: tuple[Part, ...] = Field((), description="scores -> scores, in order")
    filters: tuple[Part, ...] | None = Field(None, description="which groups are kept; unset: what the objective's preset asks for")
    temperature: TemperatureConfig | None = Field(None, description="the sampling temperature follows a target entropy; unset: fixed")
    objective: Part = Field("grpo", description="preset (reinforce, rloo, grpo, dr_grpo, dapo, gspo ...), or {preset: ..., knob: value}")
    beta: float | None = Field(None, ge=0, description="KL coefficient; unset: the preset's")
    minibatches: int = Field(1, ge=1, description="optimiser steps that share one batch")
    epochs: int = Field(1, ge=1, description="passes over one batch")
    lag: int = Field(0, ge=0, description="a batch is drawn so many updates before it is used")
    processes: Literal[1, 2] = Field(1, description="2: a process of its own generates (PipelineRL-k, k = lag; see docs/pipeline.md)")
    generator_device: str | None = Field(None, description="where the second process computes; unset: as model.device")
    generator_restarts: int = Field(3, ge=0, description="deaths of the second process in a row, without a batch, that are made good")
    micro_tokens: int = Field(16384, ge=1, description="tokens of one forward and backward pass")
    share_prefix: bool = Field(True, description="compute a group's prompt once in training")
    engine_mode: Literal["auto", "exact", "fast"] = Field("auto", description="exact: a token's bits do not depend on its neighbours")
    backend: Part = Field("built_in", description="what samples: built_in, vllm, or your own; or {name: vllm, its own arguments}")
    slots: int | None = Field(None, ge=1, description="rows the engine decodes at once; unset: chosen by the batch")
    max_rounds: int = Field(4, ge=1, description="how often filters may ask for more groups in one step")
    save_steps: int | None = Field(50, ge=1, description="checkpoint every so many steps (always at the end)")
    save_total_limit: int | None = Field(3, ge=1, description="newest checkpoints kept; the best one stays too; unset: all")
    keep_rollouts: int = Field(1, ge=0, description="write every n-th step's rollouts to the run folder; 0: none")


class TrainConfig(Config):
    """`burnish train`: SFT or RL of one model on one data set."""

    free_fields: ClassVar[frozenset[str]] = FREE_FIELDS | {"output"}

    stage: Literal["sft", "rl"] = Field("rl", description="supervised fine-tuning or reinforcement learning")
    output: str = Field("", description="run folder")
    seed: int = Field(0, ge=0, description="everything random follows from it")
    threads: int | None = Field(None, ge=1, description="CPU threads; unset: chosen by the model's size")
    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig | None = Field(None, description="where the rows are and what their columns mean")
    max_prompt_tokens: int | None = Field(None, ge=1, description="longest prompt; longer ones are bad rows")
    eval: EvalConfig = Field(default_factory=EvalConfig)
    sft: SFTConfig = Field(default_factory=SFTConfig)
    rl: RLConfig = Field(default_factory=RLConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = Field((), description="metrics.jsonl is always written")

    @classmethod
    def filled(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """With what rl.recipe says and the user does not."""
        rl = data.get("rl")
        if not isinstance(rl, Mapping) or not isinstance(rl.get("recipe"), str):
            return data
        return {**data, "rl": {**papers.settings(rl["recipe"], rl), **rl}}
