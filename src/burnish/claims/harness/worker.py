"""One job in a process of its own: `python -m burnish.claims.harness.worker JOB.json`. Its result appears whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim, shared_of
from burnish.claims.harness.find import claims_of
from burnish.claims.harness.jobs import lock, read
from burnish.runs import atomic

BUSY = 75
"""Exit code where another process is at this job."""


def main(path: str) -> int:
    """Runs the job that the file describes. Exit code 0 where its result is there."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    claim = next(one for one in claims_of(job["source"]) if one.id == job["claim"])
    folder = Path(job["folder"])
    with lock(folder / "lock", wait=False) as mine:
        if not mine:
            return BUSY
        if (read(Path(job["result"])) or {}).get("mark") == job["head"]["mark"]:
            return 0  # another process has done it since this one was started
        _one_thread()
        if claim.shared is not None:
            make_shared(claim, job["seed"], shared_of(folder), job["size"])
        _one_thread()
        started, cpu = time.perf_counter(), cpu_seconds()
        result = claim.run(Arm(job["arm"], job["settings"]), job["seed"], folder, job["size"])
        spent = {"wall_seconds": round(time.perf_counter() - started, 2), "cpu_seconds": round(cpu_seconds() - cpu, 2)}
        write(Path(job["result"]), {**job["head"], "result": result, **spent, **job["tail"]})
    return 0


def make_shared(claim: Claim, seed: int, folder: Path, size: str) -> None:
    """The seed's shared step, once, whoever of several workers comes first; the others wait."""
    assert claim.shared is not None
    with lock(folder.with_name("shared.lock"), wait=True):
        if not folder.exists():
            with atomic.folder(folder) as temporary:
                claim.shared(seed, temporary, size)


def write(path: Path, found: dict[str, Any]) -> None:
    """A result as strict JSON. Raises ValueError or TypeError where `run` returned something else."""
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(found, indent=1, allow_nan=False) + "\n")


def cpu_seconds() -> float:
    """Of this process and its finished children."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _one_thread() -> None:
    if "torch" in sys.modules:  # imported later it reads OMP_NUM_THREADS, which is set to 1
        sys.modules["torch"].set_num_threads(1)


def _die_with_parent(parent: int) -> None:
    """Ends this process and its children where the verify that started it was killed: nobody would be told of the result."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL) if os.getpgid(0) == os.getpid() else os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
