"""As a script: kills training runs by plan, in children forked from one process that has imported everything once.

`resume_drive.py FOLDER SEED SCENARIO=PLACE,PLACE...`: for each scenario an unbroken run in FOLDER/SCENARIO, resumed once more when it is
done, which must change nothing; then runs that are killed at each PLACE in turn (see `resume_traps`), at a passage drawn by the seed
(PLACE:N names it), and resumed after each kill until done; a run that ends with places left over is followed by the next one.
Every end is compared with the unbroken one.
Prints {scenario: {"kills": [notes], "runs": number, "kept": see `resume_world.kept`, "seconds": ...}}.
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

FURTHEST = {
    "checkpoint": 40, "generation": 30, "evaluation": 5, "renamed": 2, "pruning": 8, "metrics": 14, "rollouts": 8, "update": 9, "start": 6,
    "interrupt": 12,
}  # fmt: skip
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
    # a Ctrl-C writes a checkpoint more, which may change which others are kept
    last_only = any(place.startswith("interrupt") for place in places)
    finished = resume_world.outcome(folder / scenario)
    again = fork(resume_world.settings(folder, scenario), None, note)
    if again or resume_world.outcome(folder / scenario) != finished:
        raise SystemExit(f"{scenario}: resuming the finished run changed it (status {again})")
    wanted = resume_world.outcome(folder / scenario, last_only)
    left, notes, runs = list(places), [], 0
    while left or not runs:
        runs += 1
        output = folder / f"{scenario}-killed-{runs}"
        config = resume_world.settings(folder, scenario, output)
        while True:
            note.unlink(missing_ok=True)
            spec = _spec(left[0], dice) if left else None
            status = fork(config, spec, note)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            stopped = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 130 and resume_world.stopped_well(output)
            if note.exists() and (stopped if spec and spec[0] == "interrupt" else killed):
                found = json.loads(note.read_text())
                found["leftover"] = sorted(path.name for path in output.glob("tmp-*"))
                notes.append(found)
                left.pop(0)
            elif status == 0:
                break
            else:
                raise SystemExit(f"{scenario}: a run with the trap {spec} ended with status {status}")
        bad = resume_world.differences(resume_world.outcome(output, last_only), wanted)
        if bad:
            raise SystemExit(f"{scenario}, after {notes}: {len(bad)} differences: {bad[:10]}")
        if runs > 12:
            raise SystemExit(f"{scenario}: after {runs} runs the places {left} were not reached")
    seconds = {"unbroken": unbroken, "seconds": time.perf_counter() - start}
    return {"kills": notes, "runs": runs, "kept": resume_world.kept(folder / scenario), **seconds}


def _spec(text: str, dice: random.Random) -> tuple[str, int]:
    name, _, number = text.partition(":")
    return name, int(number or dice.randint(1, FURTHEST[name]))


def warm() -> None:
    """Imports what training imports, and computes nothing: children of a process with threads of its own could hang."""
    import torch
    import transformers.models.qwen3.modeling_qwen3

    import burnish.recipes.train

    torch.set_num_threads(1)
    assert transformers, burnish


if __name__ == "__main__":
    warm()
    out = {}
    for plan in sys.argv[3:]:
        name, _, places = plan.partition("=")
        out[name] = drive(Path(sys.argv[1]), name, int(sys.argv[2]), [place for place in places.split(",") if place])
    print(json.dumps(out))
