"""Supervised fine-tuning: `train_sft`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from burnish.data.examples import Example
from burnish.hardware.flops import per_token
from burnish.models.eval_mode import switch_checkpointing
from burnish.models.save import write_files
from burnish.runs import checkpoints
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.groups import ParamGroup
from burnish.runs.loop import Loop, Mover
from burnish.runs.seeds import seed_everything
from burnish.sft.batches import Batches
from burnish.sft.config import SFTConfig
from burnish.sft.overshoot import Overshoot
from burnish.sft.step import Stepper


class _Seen:
    """Tokens that went through the model so far, and the FLOPs of training on them; carried over a kill."""

    def __init__(self, model: Any) -> None:
        self.tokens = 0
        self.flops = 0.0
        self._token, self._key = per_token(model)

    def add(self, batch: Sequence[Example], tokens: int) -> dict[str, float]:
        """Counts one step; each token attends to those before it in its own example, and to itself."""
        lengths = [len(example.ids) for example in batch]
        keys = sum(size * (size + 1) / 2 for size in lengths) / max(1, sum(lengths))
        self.tokens += tokens
        self.flops += 3.0 * tokens * (self._token + self._key * keys)
        return {"num_tokens": self.tokens, "compute/flops": self.flops}

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "flops": self.flops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tokens, self.flops = int(state["tokens"]), float(state["flops"])


def train_sft(
    policy: Any,
    examples: Sequence[Example],
    config: SFTConfig,
    run: Run,
    eval_examples: Sequence[Example] | None = None,
    *,
    trackers: Sequence[Any] = (),
    progress: Any = None,
    stop_check: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Trains the policy's parameters that want a gradient (all, or an adapter's) to write the loss tokens of `examples`.

    Runs on `runs.loop.Loop`: checkpoints in `run`, resumable at any step with the same bits. Rows of metrics.jsonl have TRL's names (loss,
    mean_token_accuracy, entropy, num_tokens, epoch, grad_norm, learning_rate; eval_loss ... where eval_examples and eval_steps are given,
    with a row for step 0). At the end the policy holds the weights of the best evaluation, where there was one, else the last
    (with `average`: their moving average).

    Returns {"step", "stopped", "best_step", "best_value", ...the last row's metrics}. Raises UserError where there is nothing to train.
    """
    lengths = [len(example.ids) for example in examples]
    batches = Batches(lengths, config.batch_size, config.batch_tokens, config.seed, config.bucketing)
    total = config.steps or batches.steps_in(config.epochs or 1)
    stepper = Stepper(policy, config.micro_tokens, config.packing, config.bf16)
    seed_everything(config.seed)
    group = ParamGroup(policy.model, _optimizer(policy.model, config), config.rate(total), config.average, config.max_grad_norm)
    seen = _Seen(policy.model)
    evaluates = eval_examples is not None and config.eval_steps is not None

    def step_fn(step: int, mover: Mover) -> dict[str, float]:
        batch = [examples[index] for index in batches.at(step - 1)]
        with loop.timer("gradient"):
            sums = stepper.gradient(batch)
        with loop.timer("probe"):
            probe = Overshoot(stepper, batch, step)
        mover()
        with loop.timer("probe"):
            overshoot = probe.metrics()
        return {**sums.metrics(), **overshoot, **seen.add(batch, sums.seen), "epoch": batches.epoch(step - 1)}

    def eval_fn(step: int) -> dict[str, float]:
        with loop.averaged():
            return stepper.measure(eval_examples or ()).metrics("eval_")

    def save(path: Path) -> None:
        with loop.averaged():
            write_files(policy.model, policy.tokenizer, path)

    loop = Loop(
        run,
        {"policy": group},
        {"seen": seen},
        total_steps=total,
        save_steps=config.save_steps,
        save_total_limit=config.save_total_limit,
        save_model=save,
        eval_fn=eval_fn if evaluates else None,
        eval_steps=config.eval_steps if evaluates else None,
        eval_first=evaluates,
        metric_for_best=config.metric_for_best if evaluates else None,
        greater_is_better=config.greater_is_better,
        patience=config.patience if evaluates else None,
        trackers=trackers,
        progress=progress,
        stop_check=stop_check,
    )
    with _checkpointing(policy.model, config.gradient_checkpointing):
        result = loop.run(step_fn)
    if result.stopped != "stop_check":
        _finish(loop, group, run, result.step, result.best_step)
    rows = run.metrics()
    return {
        **(rows[-1] if rows else {}),
        "step": result.step,
        "stopped": result.stopped,
        "best_step": result.best_step,
        "best_value": result.best_value,
    }


def _optimizer(model: torch.nn.Module, config: SFTConfig) -> AdamW:
    """AdamW; biases and norms (vectors) do not decay. Raises UserError where no parameter wants a gradient."""
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise UserError("sft: no parameter of the model wants a gradient; unfreeze it or load it with an adapter")
    kinds = [{"params": [p for p in params if p.dim() >= 2], "weight_decay": config.weight_decay}]
    kinds += [{"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
    groups = [kind for kind in kinds if kind["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype.is_floating_point for p in params)
    return AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=fused)


def _finish(loop: Loop, group: ParamGroup, run: Run, last: int, best: int | None) -> None:
    """The weights to go on with: the best checkpoint's, and the average where there is one."""
    if best is not None and best != last:
        loop.group_set.load_state_dict(checkpoints.load(checkpoints.path_of(run.path, best))["groups"])
    if group.averages is not None:
        with torch.no_grad():
            for name, p in group.named.items():
                p.copy_(group.averages[name])


@contextlib.contextmanager
def _checkpointing(model: Any, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing inside the block, where wanted. Raises UserError where the model cannot do it."""
    if wanted:
        switch_checkpointing(model, True)
    try:
        yield
    finally:
        if wanted:
            switch_checkpointing(model, False)
