"""The RL trainer: a Source and a Learner joined by a queue, driven by the one resumable loop. It is blind to the methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from burnish.rl.batch import Batch, group_to_dict
from burnish.rl.learner import Learner
from burnish.rl.queue import Queue
from burnish.runs import ranks
from burnish.runs.folder import Run
from burnish.runs.loop import Loop, LoopResult, Mover
from burnish.runs.resources import Timer


@dataclasses.dataclass
class Trainer:
    """queue: where batches come from. learner: what they do to the weights. loop: steps, checkpoints, resume.

    keep_rollouts: every n-th step's rollouts are written to the run folder (0: none).
    observers: called with (batch, metrics) after each update, for reports.
    """

    queue: Queue
    learner: Learner
    loop: Loop
    run_folder: Run
    timer: Timer
    keep_rollouts: int = 1
    observers: tuple[Callable[[Batch, dict[str, float]], None], ...] = ()

    def run(self) -> LoopResult:
        """Trains until the loop's last step; resumes from the newest checkpoint of the run folder where there is one."""
        try:
            return self.loop.run(self.step)
        finally:
            self.queue.close()

    def step(self, number: int, mover: Mover) -> dict[str, float]:
        """One learner step: take a batch, update, record."""
        batch = self.queue.get(number, self.loop.total_steps)
        metrics = dict(batch.metrics)
        metrics |= self.learner.update(batch, number, mover)
        with self.timer("record"):
            if self.keep_rollouts and number % self.keep_rollouts == 0 and ranks.current().is_main:
                self.run_folder.save_rollouts(number, self._records(batch))
            for observer in self.observers:
                observer(batch, metrics)
        return metrics

    def _records(self, batch: Batch) -> list[dict[str, Any]]:
        decode = self.queue.source.policy.decode
        records = []
        for group, keep in zip(batch.groups, batch.keep):
            record = group_to_dict(group)
            record["kept"] = keep
            record["texts"] = [decode(rollout.output_ids, skip_special_tokens=False) for rollout in group.rollouts]
            records.append(record)
        return records


def parts_of(queue: Queue, learner: Learner) -> dict[str, Any]:
    """Every part with a life (a `state_dict`), by the name under which it is checkpointed."""
    named = {"queue": queue, "learner": learner, **queue.source.parts, **learner.parts}
    return {name: part for name, part in named.items() if hasattr(part, "state_dict")}
