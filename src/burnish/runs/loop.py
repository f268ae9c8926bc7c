"""The one resumable optimiser loop. A run killed at any moment and resumed ends in the same bits as an unbroken one.

    loop = Loop(run, {"policy": ParamGroup(model, AdamW(model.parameters()))}, parts={"curriculum": curriculum}, total_steps=100, ...)
    loop.run(step_fn)          # step_fn(step, mover) -> metrics; it calls mover() after each backward it wants a move for

Steps count from 1: `step_fn(12, mover)` gives the row of step 12, and `checkpoint-12` is the state after it.
What `step_fn` draws must come from the step number, the global random generators or `parts`; nothing else is carried over a kill.

Several ranks (`runs.ranks`) run the same loop: `step_fn` leaves the same gradient on each before it calls the mover, all move alike, and
the main rank alone evaluates, writes and reports. Each has random generators of its own; all states are in the checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.runs import atomic, checkpoints, ranks, seeds
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.folder import Run
from burnish.runs.groups import ParamGroup
from burnish.runs.groupset import GroupSet, merge_moves
from burnish.runs.protocols import LoopResult, Mover, Progress, Stateful, StepFn
from burnish.runs.resources import Timer, peak_memory_mb
from burnish.runs.signals import StopSignals

__all__ = ["Loop", "LoopResult", "Mover", "ParamGroup", "Stateful", "StepFn"]


class Loop:
    """Optimiser steps with metrics, evaluation, checkpoints and resumption.

    groups: parameters by name. rule: `rule(i) -> names` of the groups that the i-th mover call (from 0) moves; None moves all.
    parts: anything with state_dict and load_state_dict (others are ignored), saved and restored.
    total_steps, save_steps: in steps; a checkpoint is also written at the end and at each new best. save_steps None: only those.
    save_total_limit: the newest checkpoints kept; the best one stays.
    save_model: writes the model into a folder in Hugging Face form.
    eval_fn: `eval_fn(step) -> metrics` every eval_steps and at the last step (with eval_first also before the first, as step 0);
        it does not disturb the random generators.
    metric_for_best: one of its metrics.
    patience: evaluations in a row without a new best after which the run stops.
    trackers: objects with log(step, row). progress: an object with update(step, row). stop_check: asked after each step; True ends the run.
    """

    def __init__(
        self,
        run: Run,
        groups: Mapping[str, ParamGroup],
        parts: Mapping[str, Any] | None = None,
        *,
        total_steps: int,
        save_steps: int | None = None,
        save_total_limit: int | None = None,
        rule: Callable[[int], Collection[str]] | None = None,
        save_model: Callable[[Path], None] | None = None,
        eval_fn: Callable[[int], Mapping[str, Any]] | None = None,
        eval_steps: int | None = None,
        eval_first: bool = False,
        metric_for_best: str | None = None,
        greater_is_better: bool = True,
        patience: int | None = None,
        trackers: Sequence[Any] = (),
        progress: Any = None,
        stop_check: Callable[[], bool] | None = None,
    ):
        self.run_folder, self.group_set = run, GroupSet(groups, rule)
        self.parts = {name: part for name, part in (parts or {}).items() if hasattr(part, "state_dict")}
        self.total_steps, self.save_steps, self.save_total_limit = total_steps, save_steps, save_total_limit
        self.save_model = save_model
        self.eval_fn, self.eval_steps, self.eval_first = eval_fn, eval_steps, eval_first
        self.metric_for_best, self.greater_is_better, self.patience = metric_for_best, greater_is_better, patience
        self.trackers, self.progress, self.stop_check = list(trackers), progress, stop_check
        self.timer = Timer()
        self.ranks = ranks.current()
        self._at = Progress()
        self._moved: list[dict[str, float]] = []
        self._saved_step: int | None = None
        self._check()

    def _check(self) -> None:
        for name in ("total_steps", "save_steps", "save_total_limit", "eval_steps", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1")
        if self.metric_for_best is not None and (self.eval_fn is None or self.eval_steps is None):
            raise UserError("metric_for_best needs an evaluation: set eval_steps and evaluation data")
        if self.patience is not None and self.metric_for_best is None:
            raise UserError("patience (early stopping) needs metric_for_best")

    @property
    def groups(self) -> dict[str, ParamGroup]:
        """The parameter groups by name."""
        return self.group_set.groups

    @property
    def step(self) -> int:
        """Steps done."""
        return self._at.step

    @property
    def moves(self) -> int:
        """Mover calls made."""
        return self.group_set.moves

    @property
    def best(self) -> tuple[int | None, float | None]:
        """(step, value) of the best evaluation so far."""
        return self._at.best_step, self._at.best_value

    # -- moving

    def move(self, names: Collection[str] | None = None) -> dict[str, float]:
        """The `mover` handed to step_fn: see `GroupSet.move`."""
        with self.timer("optimizer"):
            out = self.group_set.move(names)
        self._moved.append(out)
        return out

    def snapshot(self, name: str) -> None:
        """Keeps the groups' whole state under a name, part of every checkpoint from now on: see `GroupSet.snapshot`."""
        self.group_set.snapshot(name)

    def reset(self, name: str) -> None:
        """Sets the groups back to a snapshot; step, parts and random generators go on."""
        self.group_set.reset(name)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """All groups hold their moving averages inside the block."""
        return self.group_set.averaged()

    # -- running

    def run(self, step_fn: StepFn) -> LoopResult:
        """Runs (or resumes) to the end. The first SIGINT or SIGTERM lets the step end, writes a checkpoint and raises KeyboardInterrupt."""
        with contextlib.ExitStack() as stack:
            for tracker in self.trackers:
                stack.callback(getattr(tracker, "finish", lambda: None))
            return self._run(step_fn)

    def _run(self, step_fn: StepFn) -> LoopResult:
        self._begin()
        with StopSignals(self.ranks.world > 1) as signals:
            while self._at.step < self.total_steps and self._at.stopped is None:
                self._one_step(step_fn)
                said = (2 if signals.received is not None else 0) + int(self.stop_check is not None and self.stop_check())
                interrupted, asked = divmod(self.ranks.largest(said), 2)  # a signal to one rank stops all after the same step
                if interrupted or asked:
                    self.save()
                if interrupted:
                    raise KeyboardInterrupt(f"interrupted after step {self._at.step}, which is saved; go on with --resume")
                if asked and self._at.step < self.total_steps and self._at.stopped is None:
                    return self._result("stop_check")
        return self._result(self._at.stopped or "done")

    def _result(self, stopped: str) -> LoopResult:
        return LoopResult(self._at.step, stopped, self._at.best_step, self._at.best_value)

    def _begin(self) -> None:
        newest = checkpoints.newest(self.run_folder.path) if self.run_folder.resuming else None
        if newest is None and checkpoints.steps(self.run_folder.path):
            raise UserError(f"{self.run_folder.path} holds checkpoints already; resume the run or choose another folder")
        if len(set(self.ranks.gather(str(newest and newest.name)))) > 1:
            raise UserError(f"the ranks see different checkpoints in {self.run_folder.path}; put it where all of them can read it")
        if newest is not None:
            self.load(newest)
        else:
            self.ranks.seed_apart()
        self.group_set.check_ranks(self._at.step)
        self.run_folder.drop_after(self._at.step if newest is not None else -1)
        if newest is None and self.eval_first and self.eval_fn is not None:
            row = self._evaluate(0)
            self._metric(row)  # a misspelt name shows now, not at the first evaluation after hours
            self._log(0, {**row, **self.timer.take()})

    def _one_step(self, step_fn: StepFn) -> None:
        step = self._at.step + 1
        self._moved = []
        start = time.perf_counter()
        own = dict(step_fn(step, self.move))
        seconds = time.perf_counter() - start
        self._at.step = step
        row = {**merge_moves(self._moved), **own}
        last = step == self.total_steps
        is_best = False
        if self.eval_fn is not None and self.eval_steps is not None and (step % self.eval_steps == 0 or last):
            row |= (found := self._evaluate(step))
            is_best = self._judge(step, found)
        self._log(step, {**row, "time/step": seconds, **self.timer.take(), "memory/peak_mb": peak_memory_mb()})
        due = self.save_steps is not None and step % self.save_steps == 0
        if due or last or is_best or self._at.stopped is not None:
            self.save()

    def _log(self, step: int, row: Mapping[str, Any]) -> None:
        self.run_folder.log(step, row)
        for tracker in self.trackers:
            tracker.log(step, row)
        if self.progress is not None:
            self.progress.update(step, row)

    def _evaluate(self, step: int) -> dict[str, Any]:
        assert self.eval_fn is not None
        kept = seeds.get_rng_state()
        with self.timer("eval"):
            found = self.ranks.broadcast(dict(self.eval_fn(step)) if self.ranks.is_main else None)
        seeds.set_rng_state(kept)
        return found

    def _metric(self, found: Mapping[str, Any]) -> str | None:
        """The metric that picks the best. Raises UserError where an evaluation does not measure it."""
        name = self.metric_for_best
        if name is not None and name not in found:
            raise UserError(f"metric_for_best {name!r} is not measured; {did_you_mean(name, found)}")
        return name

    def _judge(self, step: int, found: Mapping[str, Any]) -> bool:
        """Best so far? Counts evaluations without a new best and stops when patience is at its end. NaN is never best."""
        name = self._metric(found)
        if name is None:
            return False
        value, best = float(found[name]), self._at.best_value
        better = not math.isnan(value) and (best is None or (value > best if self.greater_is_better else value < best))
        if better:
            self._at.best_step, self._at.best_value, self._at.bad_evals = step, value, 0
            return True
        self._at.bad_evals += 1
        if self.patience is not None and self._at.bad_evals >= self.patience:
            self._at.stopped = "patience"
        return False

    # -- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {
            "progress": dataclasses.asdict(self._at),
            "groups": self.group_set.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "rng": seeds.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`. Raises UserError where groups or parts are not those that were saved."""
        if set(state["parts"]) != set(self.parts):
            raise UserError(f"the checkpoint holds the parts {sorted(state['parts'])}, not {sorted(self.parts)}; use the same settings")
        self.group_set.load_state_dict(state["groups"])
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self._at = Progress(**state["progress"])
        own = state.get("rank_rng", [])[self.ranks.rank : self.ranks.rank + 1]
        seeds.set_rng_state(own[0] if own else state["rng"])  # last: what is above may draw
        if not own:  # more ranks than wrote it: those that are new draw numbers of their own
            self.ranks.seed_apart()

    def save(self) -> None:
        """Writes the checkpoint of the current step (once) and prunes.

        Raises UserError where the disk is full; nothing half-written stays.
        """
        if self._saved_step == self._at.step:
            return
        with self.timer("save"):
            kept = seeds.get_rng_state()
            self.group_set.check_ranks(self._at.step)
            rank_rng = self.ranks.gather(kept)
            if self.ranks.is_main:
                self._write(rank_rng)
            self.ranks.barrier()
            seeds.set_rng_state(kept)
            self._saved_step = self._at.step
            self._prune()

    def _write(self, rank_rng: list[Any]) -> None:
        if self.run_folder.metrics_path.exists():
            atomic.sync(self.run_folder.metrics_path)  # its rows must not be younger than the checkpoint
        head: dict[str, Any] = {"best_step": self._at.best_step, "best_value": self._at.best_value, "total_steps": self.total_steps}
        head["config_hash"] = self.run_folder.config_hash
        state = self.state_dict()
        if self.ranks.world > 1:
            head["ranks"], state["rank_rng"] = self.ranks.world, rank_rng
        checkpoints.save(self.run_folder.path, self._at.step, state, head, self.save_model)

    def _prune(self) -> None:
        if self.ranks.is_main:
            checkpoints.prune(self.run_folder.path, self.save_total_limit, self._at.best_step)

    def load(self, path: Path) -> None:
        """Restores a checkpoint. Raises UserError where it belongs to another config or is broken."""
        head = checkpoints.head(path) or {}
        if head.get("config_hash") != self.run_folder.config_hash or head.get("total_steps") != self.total_steps:
            raise UserError(f"{path} was written under another config; resume with the config of that run or choose another folder")
        checkpoints.note_ranks(path, head, self.ranks)
        self.load_state_dict(checkpoints.load(path))
        self._saved_step = self._at.step
        self.ranks.barrier()  # nobody removes what another still reads
        self._prune()
