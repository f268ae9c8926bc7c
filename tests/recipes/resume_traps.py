"""Traps: a process that sets one kills itself with SIGKILL (or sends itself a Ctrl-C) at the n-th passage of a place, and notes where.

Only test code sets them: the product knows nothing of it.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLACES: dict[str, Callable[[Trap], None]] = {}


class Trap:
    """Kills this process at the `at`-th `passed()` (from 1). note: file that then tells place, passage and detail."""

    def __init__(self, place: str, at: int, note: Path):
        self.place, self.at, self.note = place, at, note
        self.count, self.within, self.signal = 0, 0, signal.SIGKILL
        PLACES[place](self)

    def passed(self, detail: str = "", last_words: Callable[[], Any] = lambda: None) -> None:
        """One passage; last_words: what is done before dying (a write that is torn)."""
        self.count += 1
        if self.count == self.at:
            last_words()
            self.note.write_text(json.dumps({"place": self.place, "passage": self.count, "detail": detail}))
            os.kill(os.getpid(), self.signal)

    def inside(self, owner: Any, name: str) -> None:
        """`within` is above 0 while `owner.name` runs."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def marked(*args: Any, **options: Any) -> Any:
            self.within += 1
            try:
                return original(*args, **options)
            finally:
                self.within -= 1

        setattr(owner, name, marked)

    def around(self, owner: Any, name: str, before: bool = False, after: bool = False) -> None:
        """A passage before and/or after each call of `owner.name` while `within`."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def trapped(*args: Any, **options: Any) -> Any:
            if before and self.within:
                self.passed(f"before {name}")
            out = original(*args, **options)
            if after and self.within:
                self.passed(f"after {name}")
            return out

        setattr(owner, name, trapped)


def place(function: Callable[[Trap], None]) -> Callable[[Trap], None]:
    """Registers a place by the function's name."""
    PLACES[function.__name__] = function
    return function


@place
def generation(trap: Trap) -> None:
    """In the middle of thinking: after a token of every live row."""
    from burnish.inference.engine import Engine
    from burnish.rl.source import Source

    trap.inside(Source, "think")
    trap.around(Engine, "step", after=True)


@place
def evaluation(trap: Trap) -> None:
    """In the middle of a held-out evaluation, RL's or SFT's."""
    from burnish.inference.engine import Engine
    from burnish.runs.loop import Loop
    from burnish.sft.step import Stepper

    trap.inside(Loop, "_evaluate")
    trap.around(Engine, "step", after=True)
    trap.around(Stepper, "_values", after=True)


@place
def checkpoint(trap: Trap) -> None:
    """While a checkpoint is written: between its files, in the middle of one, at each fsync of them, before the rename."""
    from burnish.runs import atomic, checkpoints, stateio

    def torn(tensors: Any, path: Path, *args: Any) -> None:
        save_file(tensors, path, *args)
        if trap.within:
            trap.passed("half of state.safetensors", lambda: os.truncate(path, path.stat().st_size // 2))

    def syncing(path: Path) -> None:
        if trap.within and atomic.TEMPORARY in str(path):
            trap.passed(f"before sync of {path.name}")
        sync(path)

    save_file, sync = stateio.save_file, atomic.sync
    stateio.save_file, atomic.sync = torn, syncing
    trap.inside(checkpoints, "save")
    trap.around(stateio, "save", before=True, after=True)
    trap.around(os, "rename", before=True)


@place
def renamed(trap: Trap) -> None:
    """When a checkpoint has just got its name, and older ones are still to be removed."""
    from burnish.runs import checkpoints

    trap.inside(checkpoints, "save")
    trap.around(os, "rename", after=True)


@place
def pruning(trap: Trap) -> None:
    """While old checkpoints are removed."""
    import shutil

    from burnish.runs import checkpoints

    trap.inside(checkpoints, "prune")
    trap.around(os, "rename", before=True, after=True)
    trap.around(shutil, "rmtree", after=True)
    trap.around(os, "unlink", after=True)


@place
def metrics(trap: Trap) -> None:
    """In the middle of a row of metrics.jsonl: the worst a disk can do."""
    from burnish.runs import folder

    def torn(path: Path, line: str) -> None:
        trap.passed("half a row", lambda: path.open("a").write(line[: len(line) // 2]))
        append(path, line)
        trap.passed("after a row")

    append = folder.append_line
    folder.append_line = torn


@place
def rollouts(trap: Trap) -> None:
    """While a step's rollouts are written."""
    from burnish.runs.folder import Run

    trap.inside(Run, "save_rollouts")
    trap.around(os, "replace", before=True, after=True)


@place
def update(trap: Trap) -> None:
    """Between the optimiser's move and the next thing."""
    from burnish.runs.groupset import GroupSet

    trap.within = 1
    trap.around(GroupSet, "move", after=True)


@place
def start(trap: Trap) -> None:
    """While the run folder is made or opened, and while a checkpoint is read."""
    from burnish.runs.folder import Run
    from burnish.runs.loop import Loop

    trap.inside(Run, "create")
    trap.inside(Loop, "_begin")
    trap.around(os, "replace", before=True, after=True)
    trap.around(Loop, "load_state_dict", before=True, after=True)
    trap.around(os, "unlink", after=True)


@place
def interrupt(trap: Trap) -> None:
    """Ctrl-C in the middle of a step: while thinking, or between the forward passes of an SFT step."""
    from burnish.inference.engine import Engine
    from burnish.rl.source import Source
    from burnish.sft.step import Stepper

    trap.signal = signal.SIGINT
    trap.inside(Source, "think")
    trap.around(Engine, "step", after=True)
    trap.inside(Stepper, "gradient")
    trap.around(Stepper, "_values", after=True)


def run_child(config: dict[str, Any], spec: tuple[str, int] | None, note: Path) -> int:
    """What a forked child does: train (or resume) with a trap set; gives the exit code."""
    import torch

    from burnish.recipes.config import TrainConfig
    from burnish.recipes.train import train

    torch.set_num_threads(1)
    try:
        if spec is not None:
            Trap(*spec, note)
        train(TrainConfig.model_validate(config), resume=True, command="test")
    except KeyboardInterrupt:
        return 130
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0
