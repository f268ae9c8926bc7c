"""The processes of the harness: a few jobs at once, each with one thread and a process group of its own."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from burnish.claims.harness.jobs import Job, common_of
from burnish.runs import atomic, jobs

GRACE = 5.0
"""Seconds between asking a process group to end and making it."""
TAIL = 12
"""Lines of a failed arm's log that are shown."""


@dataclasses.dataclass
class Running:
    """A job at work. log: what its process writes."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path


class Pool:
    """A context manager; leaving it, by Ctrl-C too, ends every process group that is still at work."""

    def __init__(self, source: str, provenance: dict[str, Any]):
        self.source, self.provenance = source, provenance
        self.running: list[Running] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self, job: Job) -> None:
        """Starts the job's process. Settings, seed and provenance go to it as a file."""
        folder = job.folder
        with atomic.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        head = {"claim": job.claim.id, "arm": job.arm.name, "seed": job.seed, "size": job.size, "settings": dict(job.settings)}
        task = {**head, "source": self.source, "folder": str(folder), "result": str(job.path)}
        task |= {"head": {**head, "common": common_of(job.claim, job.size), "mark": job.mark}, "tail": self.provenance}
        atomic.write_text(folder / "job.json", json.dumps(task))
        log = folder / "log.txt"
        command = [sys.executable, "-m", "burnish.claims.harness.worker", str(folder / "job.json")]
        log.unlink(missing_ok=True)
        self.running.append(Running(job, jobs.start(command, log), log))

    def finished(self) -> list[tuple[Running, int]]:
        """Those that have ended since the last call, with their exit codes."""
        ended = [(one, one.process.returncode) for one in self.running if one.process.poll() is not None]
        self.running = [one for one in self.running if one.process.returncode is None]
        return ended

    def stop(self) -> None:
        """Ends all that is at work: asked first, then made to. Files that were being written go."""
        jobs.stop([one.process for one in self.running], signal.SIGTERM, GRACE)
        for one in self.running:
            for left in one.job.path.parent.glob(f"{atomic.TEMPORARY}*-{one.process.pid}"):
                left.unlink(missing_ok=True)
        self.running = []


def tail(log: Path) -> str:
    """The last lines of a log."""
    return jobs.tail(log, TAIL)
