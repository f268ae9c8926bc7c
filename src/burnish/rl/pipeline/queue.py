"""The queue between Source and Learner with a second process behind it: the learner's side."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.rl.batch import Batch, without_replayed
from burnish.rl.pipeline import spool, weights
from burnish.rl.pipeline.generator import restore, state_of
from burnish.rl.pipeline.link import Child
from burnish.rl.shared import count_passes
from burnish.rl.source import Source

GLANCE = 0.002
"""Seconds between two looks at the spool."""


class PipelineQueue:
    """`LagQueue`'s place in the trainer: batch j was drawn under weights of version j - 1 - lag or later, and each token says which.

    source: the learner's own, for evaluation and reports; its parts take the state that the generator's had when the batch in hand was
    finished, so that checkpoints hold it. folder: of the spool. command: starts the generator. restarts: see `Child`.
    """

    def __init__(self, source: Source, lag: int, folder: Path, command: Sequence[str], restarts: int = 3):
        self.source, self.lag, self.folder = source, lag, folder
        self.child = Child(command, folder, restarts)
        self.reader: spool.Reader | None = None
        self.consumed, self.total = 0, 0
        self._saved: list[int] = []
        self._pushed = -1
        self._waited, self._since = 0.0, time.perf_counter()

    def get(self, step: int, total: int) -> Batch:
        """The batch of learner step `step` (1-based); waits for it. Weights are at version step - 1 when this is called."""
        if self.reader is None:
            self._begin(step)
        assert self.reader is not None
        self.total = total
        self.push(step - 1)
        start = time.perf_counter()
        with self.source.timer("wait"):
            while not self.reader.ready(step):
                if self.child.watch():
                    self.child.tell({"version": self._pushed})
                time.sleep(GLANCE)
        self._waited += time.perf_counter() - start
        self.child.deaths = 0
        batch, state = self.reader.batch(step)
        restore(self.source, state)
        self._count(batch)
        self.consumed = step
        while len(self._saved) > 1:  # the checkpoint before the newest: should that one be broken, the run goes on from here
            self.reader.drop_until(self._saved.pop(0))
        return batch

    def push(self, version: int) -> None:
        """Hands the policy's weights to the generator, once for each version."""
        if version <= self._pushed:
            return
        with self.source.timer("push"):
            weights.write(self.folder, self.source.policy.model, version)
            self._pushed = version
            self.child.tell({"version": version})

    def observe(self, batch: Batch, metrics: dict[str, float]) -> None:
        """An observer of the trainer: the update is done, so its weights go out at once; adds `pipeline/*` to the metrics."""
        assert self.reader is not None
        self.push(batch.step)
        now = time.perf_counter()
        journal = self.reader.follow()
        metrics |= staleness(batch) | {
            "pipeline/learner_waiting": self._waited / max(now - self._since, 1e-9),
            "pipeline/ahead": float(self.reader.waiting(batch.step)),
            "pipeline/half_done": float(journal.half_done),
            "pipeline/dropped": float(journal.dropped),
            "pipeline/restarts": float(self.child.total_deaths),
        }
        self._waited, self._since = 0.0, now

    def close(self) -> None:
        """Ends the generator. A run that is at its end, and saved, needs no finished batches any more."""
        self.child.close()
        if self.reader is not None and self.total in self._saved:
            self.reader.drop_until(self.total)

    def state_dict(self) -> dict[str, Any]:
        """The last batch that was learnt from: with the checkpoint it is acknowledged."""
        self._saved.append(self.consumed)
        return {"consumed": self.consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.consumed = int(state["consumed"])
        self._saved = [self.consumed]

    def _begin(self, step: int) -> None:
        """Finds the spool, or begins a new one where there is none that has this batch; starts the generator."""
        journal, dropped = self.folder / spool.JOURNAL, 0
        there = journal.exists() and bool(spool.whole_lines(journal))
        if there and not spool.Reader(self.folder).serves(step):
            dropped = len(list(self.folder.glob("batch-*")))
            warnings.warn(
                f"{self.folder} does not go on at step {step}, as the newest checkpoint does; {dropped} finished batches in it are dropped",
                stacklevel=2,
            )
            there = False
        if not there:
            spool.begin(self.folder, step, state_of(self.source), dropped)
        self.reader = spool.Reader(self.folder)
        weights.write(self.folder, self.source.policy.model, step - 1)
        self._pushed = step - 1
        self.child.start()
        self.child.tell({"version": self._pushed})
        self._since = time.perf_counter()

    def _count(self, batch: Batch) -> None:
        """Passes that the generator made to measure what rewards and shapers need count in this run's compute."""
        needs = [need for part in (self.source.reward, *self.source.shapers) for need in getattr(part, "needs", ())]
        if needs:
            fresh = [rollout for group in batch.groups for rollout in without_replayed(group).rollouts]
            count_passes(self.source.measurer, fresh, needs)


def staleness(batch: Batch) -> dict[str, float]:
    """How many updates old the weights of the batch's tokens are when it is learnt from, and the share of completions under several."""
    rollouts = [rollout for group in batch.groups for rollout in without_replayed(group).rollouts]
    versions = [np.concatenate([turn.version[turn.loss_mask] for turn in rollout.turns] or [np.zeros(0, int)]) for rollout in rollouts]
    seen = [one for one in versions if len(one)]
    if not seen:
        return {}
    ages = batch.step - 1 - np.concatenate(seen)
    return {
        "pipeline/lag_mean": float(ages.mean()),
        "pipeline/lag_max": float(ages.max()),
        "pipeline/mixed": float(np.mean([one.min() < one.max() for one in seen])),
    }
