"""What a run will cost before it runs (`burnish train --dry-run`): FLOPs, peak memory and least time, from the config alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from burnish.hardware import architecture, cost
from burnish.hardware.architecture import Architecture
from burnish.hardware.calibrate import Machine
from burnish.models import template
from burnish.models.load import load_tokenizer
from burnish.models.lora import LoraConfig, add_lora
from burnish.recipes.config import TrainConfig
from burnish.recipes.cost import BOUND, WIDTHS, Estimate, machine_named
from burnish.recipes.rl import build_objective
from burnish.runs.errors import UserError

ROWS = 64
"""Rows whose length is looked at."""


def trained_parameters(config: Any, lora: LoraConfig | None, trust_remote_code: bool = False) -> float | None:
    """Weights an adapter adds; None where all are trained."""
    if lora is None:
        return None
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        adapted = add_lora(model, lora)
    return float(sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad))


def estimate(config: TrainConfig, machine: Machine | None = None) -> Estimate:
    """What `burnish train` would cost with this config; no weight is loaded. Raises UserError for a model or data that cannot be read.

    Completions are taken to reach rl.max_new_tokens, so FLOPs and memory are upper bounds for RL; times are lower bounds everywhere.
    """
    machine = machine or machine_named("here", config.model.dtype)
    settings = architecture.read(config.model.path, config.model.trust_remote_code)
    arch = Architecture.of(settings, config.model.trust_remote_code)
    trained = trained_parameters(settings, config.model.lora, config.model.trust_remote_code)
    prompt, whole, rows = lengths(config)
    width = WIDTHS[config.model.dtype]
    if config.stage == "sft":
        return _sft(config, arch, machine, trained, whole, rows, width)
    return _rl(config, arch, machine, trained, prompt, width)


def _sft(
    config: TrainConfig, arch: Architecture, machine: Machine, trained: float | None, whole: float, rows: int, width: float
) -> Estimate:
    sft = config.sft
    size = sft.batch_tokens / whole if sft.batch_tokens else sft.batch_size
    steps = sft.steps if sft.steps else max(1.0, (sft.epochs or 1.0) * rows / size)
    checkpointing = sft.gradient_checkpointing or config.model.gradient_checkpointing
    keys = arch.keys_seen(0, round(whole))
    update = cost.train(arch, size * whole, keys, sft.micro_tokens, width, trained, checkpointing)
    return Estimate(machine, {"update": update}, steps, (f"{rows} examples of {whole:.0f} tokens on average", BOUND))


def _rl(config: TrainConfig, arch: Architecture, machine: Machine, trained: float | None, prompt: float, width: float) -> Estimate:
    rl = config.rl
    groups, rollouts, new = rl.prompts_per_step, rl.prompts_per_step * rl.group_size, rl.max_new_tokens
    slots = min(rl.slots or rollouts, rollouts)
    shared = groups * prompt if rl.share_prefix else rollouts * prompt
    tokens, keys = shared + rollouts * new, arch.keys_seen(0, round(prompt + new))
    objective = build_objective(rl)
    needed = {(need.model, need.kind) for need in objective.needs()}
    passes = len({model for model, _ in needed}) + (1 if rl.minibatches * rl.epochs > 1 and ("policy", "logp") not in needed else 0)
    parts = {
        "prefill": cost.forward(arch, prompt, rows=groups, width=width),
        "decode": cost.decode(arch, slots, round(prompt), new, width).times(rollouts / slots),
    }
    if passes:
        parts["measure"] = cost.forward(arch, tokens, width=width).times(passes)
    update = cost.train(arch, tokens, keys, rl.micro_tokens, width, trained, config.model.gradient_checkpointing)
    parts["update"] = update.times(rl.epochs)
    if any(model == "reference" for model, _ in needed) and config.model.lora is None:
        held = cost.weight_bytes(arch, width)
        parts = {name: dataclasses.replace(one, memory=one.memory + held) for name, one in parts.items()}
    state = (arch.parameters if trained is None else trained) * (width + cost.ADAM_BYTES)
    for name in ("prefill", "decode", "measure"):
        if name in parts:
            parts[name] = dataclasses.replace(parts[name], memory=parts[name].memory + state)
    notes = (f"prompts of {prompt:.0f} tokens on average, completions at their longest ({new} tokens)", BOUND)
    return Estimate(machine, parts, rl.steps, notes)


def lengths(config: TrainConfig) -> tuple[float, float, int]:
    """(mean tokens of a prompt, mean tokens of prompt and completion, rows), from the first rows. Raises UserError."""
    if config.data is None:
        raise UserError("data.path is not set; name a JSONL, Parquet or CSV file, a dataset folder or a hub id (--data.path ...)")
    rows = config.data.load()
    if not len(rows):
        raise UserError(f"{config.data.path}: there are no rows; nothing to estimate")
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    looked = rows[: min(ROWS, len(rows))]
    found = [_lengths(tokenizer, row, config) for row in looked]
    return sum(one for one, _ in found) / len(found), sum(both for _, both in found) / len(found), len(rows)


def _lengths(tokenizer: Any, row: dict[str, Any], config: TrainConfig) -> tuple[int, int]:
    def size(value: Any, **more: Any) -> int:
        if value is None:
            return 0
        if isinstance(value, str):
            return len(tokenizer(value)["input_ids"])
        return len(template.render(tokenizer, list(value), **config.model.template_args, **more))

    if row.get("messages"):
        whole = size(row["messages"], add_generation_prompt=False)
        return whole, whole
    prompt = row.get("prompt", row.get("text"))
    completion = row.get("completion")
    if isinstance(prompt, list) and completion is not None:
        return size(prompt), size([*prompt, *completion], add_generation_prompt=False)
    return size(prompt), size(prompt) + (size(completion) if isinstance(completion, str) else 0)
