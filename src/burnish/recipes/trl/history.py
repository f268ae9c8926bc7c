"""What is said of a run while it goes: log_history, trackers and callbacks, at TRL's steps and under its names."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerControl, TrainerState

from burnish.recipes.trl.settings import Steps
from burnish.runs.errors import UserError

LAST = ("learning_rate", "epoch", "num_tokens", "grad_norm")
"""Rows between two logs are averaged, but of these the last value counts."""
SHOWN = re.compile(
    r"(loss|policy_loss|grad_norm|learning_rate|entropy|kl|num_tokens|mean_token_accuracy|reward|reward_std|frac_reward_zero_std|cispo_clip_ratio"
    r"|step_time|epoch|(completions|rewards)/.*|clip_ratio/.*|sampling/sampling_logp_difference/(mean|max))"
)
"""TRL's names. What burnish measures besides is in metrics.jsonl."""
CALLED = ("init_end", "train_begin", "epoch_begin", "step_begin", "step_end", "log", "evaluate", "save", "epoch_end", "train_end")


def check_callbacks(callbacks: Sequence[Any] | None) -> list[Any]:
    """Callbacks as objects. Raises UserError for one that waits for an event which never comes here."""
    from transformers import TrainerCallback

    made = [callback() if isinstance(callback, type) else callback for callback in callbacks or ()]
    for callback in made:
        for event in ("on_pre_optimizer_step", "on_optimizer_step", "on_substep_end", "on_prediction_step", "on_predict"):
            if getattr(type(callback), event, None) not in (None, getattr(TrainerCallback, event, None)):
                raise UserError(
                    f"callback {type(callback).__name__} waits for {event}, which is not called here; "
                    f"called are {', '.join('on_' + name for name in CALLED)}"
                )
    return made


def tracked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Names as transformers shows them in trackers: train/..., and eval/... for what starts with eval_."""
    return {f"eval/{key[5:]}" if key.startswith("eval_") else f"train/{key}": value for key, value in row.items()}


class History:
    """A tracker of the loop, and its stop_check.

    state: transformers' TrainerState with log_history. callbacks: transformers' callbacks; of what they ask for in `control`,
    should_training_stop is heard. trackers: receive what goes to log_history; they stay open, so that evaluate() can add to them.
    own: names that reward functions gave to log_metric. show: prints each row.
    """

    def __init__(self, args: Any, steps: Steps, callbacks: Sequence[Any], handed: Mapping[str, Any], show: bool) -> None:
        self.args, self.steps, self.callbacks, self.handed, self.show = args, steps, list(callbacks), dict(handed), show
        self.state, self.control = TrainerState(), TrainerControl()
        self.state.max_steps, self.state.num_train_epochs = steps.total, max(1, round(steps.total / steps.epoch))
        self.state.logging_steps, self.state.eval_steps, self.state.save_steps = steps.log or 0, steps.evaluate or 0, steps.save or 0
        self.trackers: list[Any] = []
        self.batch: dict[str, float] = {}
        self.own: set[str] = set()
        self.losses: list[float] = []
        self._window: list[dict[str, float]] = []
        self._epoch = 0

    # -- the loop's tracker

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """One row of the loop. step: counted in batches."""
        numbers = {key: float(value) for key, value in row.items() if isinstance(value, (int, float))}
        measured = {key: value for key, value in numbers.items() if key.startswith("eval")}
        values = {key: value for key, value in numbers.items() if SHOWN.fullmatch(key) or key in self.own}
        if getattr(self.args, "loss_type", "") in ("cispo", "sapo", "vespo"):
            shares = {key: values.pop(key) for key in list(values) if key.startswith("clip_ratio/")}
            if self.args.loss_type == "cispo" and "clip_ratio/high_mean" in shares:
                values["cispo_clip_ratio"] = shares["clip_ratio/high_mean"]
        if step > 0:
            self._one(step * self.steps.updates, values, float(row.get("time/step", 0.0)))
        if measured and (step > 0 or self.args.eval_on_start):
            self.evaluated(eval_names(measured))

    def _one(self, step: int, values: dict[str, float], seconds: float) -> None:
        self.state.global_step = step
        self.state.epoch = step / self.steps.epoch
        values |= self.batch | {"epoch": self.state.epoch, "step_time": seconds}
        self.state.num_input_tokens_seen = int(values.get("num_tokens", 0))
        self.losses.append(values.get("loss", 0.0))
        self._window.append(values)
        self.fire("step_end")
        due = self.steps.log is not None and step // self.steps.log > (step - self.steps.updates) // self.steps.log
        if due or (self.args.logging_first_step and step == self.steps.updates):
            self.write(averaged(self._window))
            self._window = []

    def stop_check(self) -> bool:
        """Asked by the loop after each step, when its checkpoint is written."""
        step, saves = self.state.global_step, self.steps.save
        if saves is not None and (step // saves > (step - self.steps.updates) // saves or step >= self.steps.total):
            self.fire("save")
        if (epoch := int(step / self.steps.epoch)) > self._epoch:
            self._epoch = epoch
            self.fire("epoch_end")
            if step < self.steps.total:
                self.fire("epoch_begin")
        if not self.control.should_training_stop and step < self.steps.total:
            self.fire("step_begin")
        return bool(self.control.should_training_stop)

    # -- rows

    def write(self, row: dict[str, float]) -> None:
        """One row to log_history, trackers, callbacks and, where wanted, the screen."""
        entry = {**row, "step": self.state.global_step}
        self.state.log_history.append(entry)
        for tracker in self.trackers:
            tracker.log(self.state.global_step, tracked({**row, "global_step": self.state.global_step}))
        if self.show:
            print({key: f"{value:.4g}" for key, value in row.items()}, flush=True)
        self.fire("log", logs=dict(row))

    def evaluated(self, metrics: dict[str, float]) -> None:
        """An evaluation's row; callbacks hear of it before the best metric is moved, as in transformers."""
        self.write({**metrics, "epoch": self.state.epoch or 0.0})
        self.fire("evaluate", metrics=dict(metrics))
        name = "eval_" + str(self.args.metric_for_best_model or "").removeprefix("eval_")
        if name in metrics:
            best = self.state.best_metric
            if best is None or (metrics[name] > best if self.args.greater_is_better else metrics[name] < best):
                self.state.best_metric, self.state.best_global_step = metrics[name], self.state.global_step

    def closing(self, started: float, samples: int) -> dict[str, float]:
        """train_runtime, train_samples_per_second, train_steps_per_second and train_loss, written as the last row."""
        seconds = max(time.perf_counter() - started, 1e-9)
        row = {
            "train_runtime": seconds,
            "train_samples_per_second": samples / seconds,
            "train_steps_per_second": len(self.losses) * self.steps.updates / seconds,
            "train_loss": sum(self.losses) / max(1, len(self.losses)),
            "epoch": self.state.epoch or 0.0,
        }
        self.write(row)
        return row

    def fire(self, event: str, **handed: Any) -> None:
        """Calls the callbacks' on_<event>."""
        for callback in self.callbacks:
            found = getattr(callback, f"on_{event}", None)
            if found is not None:
                self.control = found(self.args, self.state, self.control, **self.handed, **handed) or self.control


def eval_names(measured: Mapping[str, float]) -> dict[str, float]:
    """TRL's names of a held-out evaluation: eval/reward -> eval_reward; eval_loss stays."""
    return {f"eval_{key[5:]}": value for key, value in measured.items()}


def averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the rows that have it, but the last of `LAST`."""
    out: dict[str, float] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        out[key] = values[-1] if key in LAST else sum(values) / len(values)
    return out
