"""As a script: kills training runs by plan, in children forked from one process that has imported everything once.

`resume_drive.py FOLDER SCENARIO SEED PLACE...`: an unbroken run of the scenario in FOLDER/SCENARIO; then runs that are killed at each
PLACE in turn (see `resume_traps`), at a passage drawn by the seed, and resumed after each kill until done; a run that ends with places
left over is followed by the next one. Prints {"kills": [notes], "runs": number, "seconds": ...}; every end is compared with the unbroken.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import resume_traps
import resume_world

FURTHEST = {"checkpoint": 45, "generation": 30, "evaluation": 5, "pruning": 8, "metrics": 5, "rollouts": 5, "update": 6, "start": 6}
"""Passages among which the kill is drawn: enough for about two steps, so that some checkpoints are reached and others are not."""


def fork(config: dict[str, Any], spec: tuple[str, int] | None, note: Path) -> int:
    """Trains in a child; gives its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = resume_traps.run_child(config, spec, note)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def drive(folder: Path, scenario: str, seed: int, places: list[str]) -> dict[str, Any]:
    """See the top. Raises SystemExit where a run fails or ends in other bits."""
    start, note = time.perf_counter(), folder / f"{scenario}.note"
    if fork(resume_world.settings(folder, scenario), None, note):
        raise SystemExit(f"{scenario}: the unbroken run failed")
    unbroken, dice = time.perf_counter() - start, random.Random(seed)
    wanted = resume_world.outcome(folder / scenario)
    left, notes, runs = list(places), [], 0
    while left or not runs:
        runs += 1
        output = folder / f"{scenario}-killed-{runs}"
        config = resume_world.settings(folder, scenario, output)
        while True:
            note.unlink(missing_ok=True)
            spec = (left[0], dice.randint(1, FURTHEST[left[0]])) if left else None
            status = fork(config, spec, note)
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and note.exists():
                found = json.loads(note.read_text())
                found["leftover"] = sorted(path.name for path in output.glob("tmp-*"))
                notes.append(found)
                left.pop(0)
            elif status == 0:
                break
            else:
                raise SystemExit(f"{scenario}: a run with the trap {spec} ended with status {status}")
        bad = resume_world.differences(resume_world.outcome(output), wanted)
        if bad:
            raise SystemExit(f"{scenario}, after {notes}: {len(bad)} differences: {bad[:10]}")
        if runs > 12:
            raise SystemExit(f"{scenario}: after {runs} runs the places {left} were not reached")
    return {"kills": notes, "runs": runs, "unbroken": unbroken, "seconds": time.perf_counter() - start}


def warm() -> None:
    """Imports what training imports, and computes nothing: children of a process with threads of its own could hang."""
    import torch
    import transformers.models.qwen3.modeling_qwen3

    import burnish.recipes.train

    torch.set_num_threads(1)
    assert transformers, burnish


if __name__ == "__main__":
    warm()
    print(json.dumps(drive(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:])))
