"""PipelineRL-k from a config: the queue with a generator process behind it (rl.processes 2), and what does not go together with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from burnish.inference.backends.protocol import label
from burnish.recipes.config import TrainConfig
from burnish.rl.pipeline.queue import PipelineQueue
from burnish.rl.queue import LagQueue, Queue
from burnish.rl.source import Source
from burnish.runs import ranks
from burnish.runs.errors import UserError
from burnish.runs.folder import Run

FOLDER = "pipeline"
"""Of the spool, in the run folder."""


def build_queue(config: TrainConfig, source: Source, run: Run) -> Queue:
    """rl.lag in this process, or with a process of its own for the Source."""
    rl = config.rl
    if rl.processes == 1:
        return LagQueue(source, rl.lag)
    command = [sys.executable, "-m", "burnish.recipes.generator", str(run.path)]
    return PipelineQueue(source, rl.lag, run.path / FOLDER, command, rl.generator_restarts)


def observers(queue: Queue) -> tuple[Callable[[Any, dict[str, float]], None], ...]:
    """What the trainer calls after each update for the queue's sake."""
    return (queue.observe,) if isinstance(queue, PipelineQueue) else ()


def refuse_pipeline(config: TrainConfig, reward: Any, given: Sequence[str] = ()) -> None:
    """Raises UserError for what cannot be split over two processes. reward: made. given: objects that came in place of names."""
    rl = config.rl
    if rl.processes == 1:
        if rl.generator_device is not None:
            raise UserError("rl.generator_device is the second process's; set rl.processes 2, or leave it out")
        return
    if os.name != "posix":
        raise UserError("rl.processes 2 needs Linux or macOS; leave it at 1 here")
    if ranks.launched()[1] > 1 or ranks.current().world > 1:
        raise UserError("rl.processes 2 is one learner and one generator; it does not go with accelerate launch: use one of the two")
    if label(rl.backend) != label("built_in"):
        raise UserError(
            f"rl.processes 2 needs the built-in engine, whose half-finished completions go on under new weights; rl.backend is "
            f"{label(rl.backend)}: leave it out, or set rl.processes to 1"
        )
    if given:
        wanted = {"model": "model.path", "data": "data.path", "reward": "rl.rewards"}
        raise UserError(
            f"rl.processes 2 starts a second process, which cannot be handed Python objects ({', '.join(given)}); name them in the config: "
            f"{', '.join(wanted[name] for name in given)}"
        )
    if any(need.model == "critic" for need in getattr(reward, "needs", ())):
        raise UserError("a reward measures the critic, which only the learner has; set rl.processes to 1")
