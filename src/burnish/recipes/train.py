"""`train(config)`: supervised fine-tuning or reinforcement learning from one TrainConfig, resumable."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from burnish.data.examples import Examples, refuse_rows_without_completions, to_examples
from burnish.data.formats import load_rows
from burnish.data.items import Items, refuse_rows_without_prompts, to_items
from burnish.data.rows import Rows
from burnish.data.split import hold_out
from burnish.models.policy import Policy
from burnish.models.precision import unmoved_share
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import load_policy, require_end
from burnish.recipes.refusals import refuse_impossible
from burnish.recipes.rl import build_trainer
from burnish.recipes.start_facts import write_start
from burnish.records import Limits
from burnish.runs import progress as progress_bars
from burnish.runs import ranks
from burnish.runs import trackers as tracker_parts
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft


@dataclasses.dataclass
class Inputs:
    """What a training run works on. policy: loaded model. rows: training rows. held_out: evaluation rows or None."""

    policy: Policy
    rows: Rows
    held_out: Rows | None


@dataclasses.dataclass
class Ready:
    """The rows as the trainer takes them: Examples for sft, Items for rl."""

    train: Any
    held_out: Any


def train(
    config: TrainConfig,
    *,
    model: Any = None,
    tokenizer: Any = None,
    data: Any = None,
    reward: Any = None,
    resume: bool = False,
    command: Sequence[str] | str | None = None,
    silent: bool = True,
) -> dict[str, Any]:
    """Runs one training to its end and returns {"run", "policy", "step", "stopped", "best_step", "best_value", ...last metrics}.

    model, tokenizer: objects in place of config.model.path. data: rows (a list, a Dataset) in place of config.data.path.
    reward: a callable, or a list of them, in place of config.rl.rewards. resume: go on from the newest checkpoint in config.output.
    The policy holds the weights of the last step (after sft: of the best evaluation, where there was one); all are in the checkpoints.
    Started several times by `accelerate launch`, the processes share the work of each step (see docs/scale.md).
    Raises UserError for whatever is wrong with the input, before anything is trained.
    """
    with ranks.together() as here:
        return _train(config, model, tokenizer, data, reward, resume, command, silent or not here.is_main)


def _train(
    config: TrainConfig,
    model: Any,
    tokenizer: Any,
    data: Any,
    reward: Any,
    resume: bool,
    command: Sequence[str] | str | None,
    silent: bool,
) -> dict[str, Any]:
    here = ranks.current()
    if not config.output:
        raise UserError("output is not set; name a run folder (--output runs/mine)")
    made = refuse_impossible(config, data is not None, reward, model is not None)
    if here.is_main:
        Run.check(config.output, config, resume)
    inputs = load_inputs(config, model, tokenizer, data)
    here.align(inputs.policy.model)
    warn_of_coarse_weights(inputs.policy, config.sft.learning_rate if config.stage == "sft" else config.rl.learning_rate)
    ready = _ready_sft(config, inputs) if config.stage == "sft" else _ready_rl(config, inputs)
    run = Run.create(config.output, config, command=command if command is not None else sys.argv, resume=resume)
    try:
        result = _run(config, inputs, ready, run, made, silent)
    except BaseException:  # Ctrl-C too
        run.discard()
        raise
    return {"run": run, "policy": inputs.policy, **result}


def _run(config: TrainConfig, inputs: Inputs, ready: Ready, run: Run, reward: Any, silent: bool) -> dict[str, Any]:
    seed_everything(config.seed)
    reports = {"rows": inputs.rows.report, "train": ready.train.report, "eval": ready.held_out.report if ready.held_out else None}
    main = ranks.current().is_main
    if main:
        write_data_report(run, reports)
        write_start(run, config, inputs.policy, inputs.rows, inputs.held_out, ready.train)
    tracks = tracker_parts.make(config.trackers if main else (), run, config)
    total = config.rl.steps if config.stage == "rl" else config.sft.steps or 0
    with progress_bars.bar(total, config.stage, silent=silent) as bar:
        try:
            if config.stage == "sft":
                sft = sft_config(config)
                return train_sft(inputs.policy, ready.train, sft, run, ready.held_out, trackers=tracks, progress=bar)
            trainer = build_trainer(config, inputs.policy, ready.train, ready.held_out or [], run, reward, trackers=tracks, progress=bar)
            backend = trainer.queue.source.backend
            with contextlib.closing(backend) if backend is not None else contextlib.nullcontext():
                result = trainer.run()
            rows = run.metrics()
            warn_of_idle_steps(rows)
            return {**(rows[-1] if rows else {}), **dataclasses.asdict(result)}
        finally:
            for track in tracks:
                track.finish()


def load_inputs(config: TrainConfig, model: Any = None, tokenizer: Any = None, data: Any = None) -> Inputs:
    """Rows first (cheap, and most often wrong), then the model."""
    rows = config.data.load(data) if config.data is not None else load_rows(data)
    held_out = None
    if config.eval.path:
        held_out = config.data.load(config.eval.path) if config.data is not None else load_rows(config.eval.path)
    elif config.eval.rows:
        rows, held_out = hold_out(rows, config.eval.rows, config.seed)
        rows.report.notes["held out"] = len(held_out)
    for found in (rows, held_out):
        if found is not None:
            (refuse_rows_without_completions if config.stage == "sft" else refuse_rows_without_prompts)(found)
    if held_out is not None and config.eval.limit and config.eval.limit < len(held_out):
        held_out.report.notes["held out but beyond eval.limit"] = len(held_out) - config.eval.limit
        held_out = held_out[: config.eval.limit]
    return Inputs(load_policy(config.model, model, tokenizer, config.threads), rows, held_out)


def items_of(config: TrainConfig, policy: Policy, rows: Rows, group_size: int) -> Items:
    """Rows with a prompt as items with this run's limits."""
    return to_items(
        rows,
        policy,
        group_size,
        Limits(max_new_tokens=config.rl.max_new_tokens),
        config.model.template_args,
        config.data.tools_column if config.data else "tools",
        max_prompt_tokens=config.max_prompt_tokens,
        too_long=config.data.bad_rows if config.data else "refuse",
    )


def warn_of_coarse_weights(policy: Policy, rate: float) -> None:
    """A warning where most trained weights are too coarse (bfloat16) to hold a step of the learning rate: nothing would be learned."""
    trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
    coarse = [parameter for parameter in trained if parameter.dtype in (torch.bfloat16, torch.float16)]
    share = unmoved_share(coarse, rate) * sum(map(torch.numel, coarse)) / max(1, sum(map(torch.numel, trained)))
    if share > 0.5:
        warnings.warn(
            f"{share:.0%} of the trained weights are rounded back to where they were by a step of the learning rate {rate:g}, so little "
            "will be learned; train an adapter (model.lora, kept in float32), set model.dtype to float32, or raise the learning rate",
            stacklevel=1,
        )


def warn_of_idle_steps(rows: Sequence[dict[str, Any]]) -> None:
    """A warning where most steps of an RL run had nothing to learn from."""
    kept = [row["rollouts/kept"] for row in rows if "rollouts/kept" in row]
    if (idle := kept.count(0.0)) > len(kept) / 2:
        warnings.warn(
            f"in {idle} of {len(kept)} steps no rollout was kept (see filter/* and rollouts/invalid in metrics.jsonl), so they did not "
            "move the weights; try `burnish train ... --check`, easier problems or other rl.filters",
            stacklevel=1,
        )


def sft_config(config: TrainConfig) -> SFTConfig:
    """The run's fine-tuning settings: what is said once for both stages (seed, gradient checkpointing) is filled in."""
    changes: dict[str, Any] = {"seed": config.seed} if "seed" not in config.sft.model_fields_set else {}
    if config.model.gradient_checkpointing:
        changes["gradient_checkpointing"] = True
    return config.sft.model_copy(update=changes)


def examples_of(config: TrainConfig, policy: Policy, rows: Rows) -> Examples:
    """Rows with a completion as examples, with this run's settings."""
    return to_examples(
        rows,
        policy,
        config.sft.loss_on,
        config.sft.max_length,
        too_long=config.sft.too_long,
        template_args=config.model.template_args,
        tools_column=config.data.tools_column if config.data else "tools",
        bad_rows=config.data.bad_rows if config.data else "refuse",
    )


def _ready_sft(config: TrainConfig, inputs: Inputs) -> Ready:
    held_out = examples_of(config, inputs.policy, inputs.held_out) if inputs.held_out is not None else None
    return Ready(examples_of(config, inputs.policy, inputs.rows), held_out)


def _ready_rl(config: TrainConfig, inputs: Inputs) -> Ready:
    require_end(inputs.policy, config.sampling.stop)
    held_out = items_of(config, inputs.policy, inputs.held_out, 1) if inputs.held_out is not None else None
    return Ready(items_of(config, inputs.policy, inputs.rows, config.rl.group_size), held_out)


def write_data_report(run: Run, reports: dict[str, Any]) -> None:
    """`data.json`: how many rows were read, kept and left out, and why."""
    import json

    from burnish.runs import atomic

    found = {name: report.to_dict() for name, report in reports.items() if report is not None}
    atomic.write_text(run.path / "data.json", json.dumps(found, indent=1) + "\n")
