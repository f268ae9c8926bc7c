"""`train(config)`: supervised fine-tuning or reinforcement learning from one TrainConfig, resumable."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.data.items import to_items
from burnish.data.rows import Rows
from burnish.data.split import hold_out
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import load_policy
from burnish.recipes.rl import build_trainer
from burnish.records import Item, Limits
from burnish.runs import progress as progress_bars
from burnish.runs import trackers as tracker_parts
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.sft.train import train_sft


@dataclasses.dataclass
class Inputs:
    """What a training run works on. policy: loaded model. rows: training rows. held_out: evaluation rows or None."""

    policy: Policy
    rows: Rows
    held_out: Rows | None


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
    Raises UserError for whatever is wrong with the input, before anything is trained.
    """
    if not config.output:
        raise UserError("output is not set; name a run folder (--output runs/mine)")
    refuse_impossible(config, data is not None, reward)
    inputs = load_inputs(config, model, tokenizer, data)
    run = Run.create(config.output, config, command=command if command is not None else sys.argv, resume=resume)
    seed_everything(config.seed)
    tracks = tracker_parts.make(config.trackers, run, config)
    total = config.rl.steps if config.stage == "rl" else config.sft.steps or 0
    with progress_bars.bar(total, config.stage, silent=silent) as bar:
        try:
            result = (_sft if config.stage == "sft" else _rl)(config, inputs, run, tracks, bar, reward)
        finally:
            for track in tracks:
                track.finish()
    return {"run": run, "policy": inputs.policy, **result}


def refuse_impossible(config: TrainConfig, has_data: bool, reward: Any) -> None:
    """What cannot work is refused before anything loads."""
    if config.data is None and not has_data:
        raise UserError("data.path is not set; name a JSONL, Parquet or CSV file, a dataset folder or a hub id (--data.path ...)")
    if config.stage == "sft":
        return
    if not config.rl.rewards and reward is None:
        raise UserError("rl.rewards is empty; name a reward, e.g. --rl.rewards '[my_reward.py:score]'")
    if config.eval.steps and not (config.eval.rows or config.eval.path):
        raise UserError("eval.steps is set but there is nothing to evaluate on; set eval.rows (held out of data.path) or eval.path")
    if config.eval.patience and not config.eval.steps:
        raise UserError("eval.patience needs eval.steps")
    if config.model.gradient_checkpointing and config.model.dtype == "float64":
        return


def load_inputs(config: TrainConfig, model: Any = None, tokenizer: Any = None, data: Any = None) -> Inputs:
    """Rows first (cheap, and most often wrong), then the model."""
    rows = config.data.load(data) if config.data is not None else load_rows(data)
    held_out = None
    if config.eval.path:
        held_out = config.data.load(config.eval.path) if config.data is not None else load_rows(config.eval.path)
    elif config.eval.rows:
        rows, held_out = hold_out(rows, config.eval.rows, config.seed)
    if held_out is not None and config.eval.limit:
        held_out = held_out[: config.eval.limit]
    return Inputs(load_policy(config.model, model, tokenizer, config.threads), rows, held_out)


def items_of(config: TrainConfig, policy: Policy, rows: Rows, group_size: int) -> list[Item]:
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


def _sft(config: TrainConfig, inputs: Inputs, run: Run, tracks: list, bar: Any, reward: Any) -> dict[str, Any]:
    sft = config.sft
    changes: dict[str, Any] = {"seed": config.seed} if "seed" not in sft.model_fields_set else {}
    if config.model.gradient_checkpointing:
        changes["gradient_checkpointing"] = True
    sft = sft.model_copy(update=changes)

    def examples(rows: Rows):
        return to_examples(
            rows, inputs.policy, sft.loss_on, sft.max_length, too_long=sft.too_long, template_args=config.model.template_args,
            tools_column=config.data.tools_column if config.data else "tools", bad_rows=config.data.bad_rows if config.data else "refuse",
        )  # fmt: skip

    train_examples = examples(inputs.rows)
    held_out = examples(inputs.held_out) if inputs.held_out is not None else None
    write_data_report(run, {"train": train_examples.report, "eval": held_out.report if held_out is not None else None})
    return train_sft(inputs.policy, train_examples, sft, run, held_out, trackers=tracks, progress=bar)


def _rl(config: TrainConfig, inputs: Inputs, run: Run, tracks: list, bar: Any, reward: Any) -> dict[str, Any]:
    items = items_of(config, inputs.policy, inputs.rows, config.rl.group_size)
    held_out = items_of(config, inputs.policy, inputs.held_out, 1) if inputs.held_out is not None else []
    reports = {"train": getattr(items, "report", None), "eval": getattr(held_out, "report", None)}
    write_data_report(run, reports)
    trainer = build_trainer(config, inputs.policy, items, held_out, run, reward, trackers=tracks, progress=bar)
    result = trainer.run()
    rows = run.metrics()
    return {**(rows[-1] if rows else {}), **dataclasses.asdict(result)}


def write_data_report(run: Run, reports: dict[str, Any]) -> None:
    """`data.json`: how many rows were read, kept and left out, and why."""
    import json

    from burnish.runs import atomic

    found = {name: report.to_dict() for name, report in reports.items() if report is not None}
    atomic.write_text(run.path / "data.json", json.dumps(found, indent=1) + "\n")
