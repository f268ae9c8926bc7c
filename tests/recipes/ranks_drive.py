"""As a script: pairs of ranks, forked from one process that has imported everything once, compared with one process.

`ranks_drive.py FOLDER TASK...` prints one JSON object, task -> result. Tasks: `gradients`, `failing`, `kill:BROKEN` (see below).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import resume_drive
import resume_traps
import resume_world

WORLD = 2


def pair(work: Callable[[int], Any], folder: Path, name: str) -> list[int]:
    """Runs `work(rank)` in two forked ranks; its results are in FOLDER/NAME-RANK.json. Gives the wait statuses.

    As a launcher does, it ends the other rank (SIGTERM, later SIGKILL) as soon as one has failed.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    children = [_fork(work, rank, port, folder / f"{name}-{rank}.json") for rank in range(WORLD)]
    statuses: dict[int, int] = {}
    end = time.monotonic() + 300
    while len(statuses) < WORLD:
        for child in [child for child in children if child not in statuses]:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                statuses[child] = status
                if status:
                    _signal([one for one in children if one not in statuses], signal.SIGTERM)
                    end = min(end, time.monotonic() + 60)
        if time.monotonic() > end:
            _signal([one for one in children if one not in statuses], signal.SIGKILL)
        time.sleep(0.01)
    return [statuses[child] for child in children]


def _signal(children: list[int], number: int) -> None:
    for child in children:
        os.kill(child, number)


def _fork(work: Callable[[int], Any], rank: int, port: int, result: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_WORLD_SIZE": str(WORLD),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "1",
        }  # fmt: skip
        result.write_text(json.dumps(work(rank)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def read(folder: Path, name: str) -> list[Any]:
    return [json.loads(path.read_text()) if (path := folder / f"{name}-{rank}.json").exists() else None for rank in range(WORLD)]


# --- gradients ------------------------------------------------------------------------------------------------------------------------


def gradients(rank: int) -> dict[str, Any]:
    """Rank 0: how far two ranks are from one process, for each dtype and case (see `ranks_world.difference`)."""
    import ranks_world
    import torch

    from burnish.runs import ranks, wire

    torch.set_num_threads(1)
    cases = {f"{kind} {name}": run for kind in ("float32", "float64") for name, run in ranks_world.cases(kind).items()}
    alone = {name: run() for name, run in cases.items()} if rank == 0 else {}
    out: dict[str, Any] = {}
    with ranks.together() as here:
        assert (here.rank, here.world) == (rank, WORLD)
        for name, run in cases.items():
            found = run()
            same = len({json.dumps(one) for one in here.gather([wire.digest(found["gradient"]), sorted(found["metrics"].items())])}) == 1
            passes = here.gather(found["passes"])
            if rank == 0:
                out[name] = {"same_on_both": same, "passes": passes, **ranks_world.difference(found, alone[name])}
    return out


# --- failing together -----------------------------------------------------------------------------------------------------------------


def failing(rank: int) -> dict[str, str]:
    """What each rank raises where one fails, and that they can go on together afterwards."""
    from burnish.runs import ranks
    from burnish.runs.errors import UserError

    def fails(error: Exception) -> None:
        with ranks.together() as here:
            if rank == 1:
                raise error
            here.gather("something else")

    out = {}
    for name, error in (("user", UserError("mend your file")), ("defect", KeyError("lost"))):
        try:
            fails(error)
        except Exception as found:
            out[name] = f"{type(found).__name__}: {found}"
    with ranks.together() as here:
        out["after"] = "".join(here.gather(str(rank)))
    return out


# --- kill and resume ------------------------------------------------------------------------------------------------------------------


@resume_traps.place
def share(trap: resume_traps.Trap) -> None:
    """In the middle of a rank's share of the thinking: after a token of every live row."""
    from burnish.inference.engine import Engine
    from burnish.rl.source import Source

    trap.inside(Source, "rollouts_of")
    trap.around(Engine, "step", after=True)


def settings(folder: Path, output: Path) -> dict[str, Any]:
    """A short run with a lag, a curriculum and a reward that keep a state, and evaluations."""
    out = resume_world.settings(folder, "rl-lag2", output)
    return {**out, "rl": {**out["rl"], "steps": 6}}


def trained(folder: Path, output: Path, spec: tuple[str, int] | None = None, victim: int = -1) -> Callable[[int], Any]:
    """Trains under two ranks (resuming where there is something); the victim kills itself at a place of `resume_traps`."""

    def work(rank: int) -> dict[str, Any]:
        import torch

        from burnish.recipes.config import TrainConfig
        from burnish.recipes.train import train

        torch.set_num_threads(1)
        if rank == victim:
            resume_traps.Trap(*spec, folder / "killed.note")
        try:
            result = train(TrainConfig.model_validate(settings(folder, output)), resume=True, command="test")
        except (Exception, KeyboardInterrupt) as error:
            (folder / f"said-{rank}.txt").write_text(f"{type(error).__name__}: {error}")
            raise
        return {"step": result["step"], "reward": result["reward"]}

    return work


def kill(folder: Path, broken: Path) -> dict[str, Any]:
    """An unbroken run; BROKEN is resumed, killed at rank 1, then at rank 0, in the middle of a step, and resumed to its end."""
    statuses = pair(trained(folder, folder / "whole"), folder, "whole")
    if any(statuses):
        raise SystemExit(f"the unbroken run failed: {statuses}")
    wanted, out = resume_world.outcome(folder / "whole"), {"ended": read(folder, "whole")}
    for victim, spec in ((1, ("share", 12)), (0, ("update", 3))):
        (folder / "killed.note").unlink(missing_ok=True)
        statuses = pair(trained(folder, broken, spec, victim), folder, f"killed-{victim}")
        note, said = folder / "killed.note", folder / f"said-{1 - victim}.txt"
        out[f"killed {victim}"] = {
            "note": json.loads(note.read_text()) if note.exists() else {"place": None},
            "signals": [os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0 for status in statuses],
            "codes": [os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0 for status in statuses],
            "survivor": said.read_text() if said.exists() else "",
        }
    out["statuses"] = pair(trained(folder, broken), folder, "resumed")
    out["differences"] = resume_world.differences(resume_world.outcome(broken), wanted)
    return out


def main(folder: Path, tasks: list[str]) -> dict[str, Any]:
    resume_drive.warm()
    out: dict[str, Any] = {}
    for task in tasks:
        name, _, rest = task.partition(":")
        if name == "kill":
            out[name] = kill(folder, Path(rest))
            continue
        statuses = pair({"gradients": gradients, "failing": failing}[name], folder, name)
        if any(statuses):
            raise SystemExit(f"{name}: {statuses}")
        out[name] = read(folder, name)
    return out


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
