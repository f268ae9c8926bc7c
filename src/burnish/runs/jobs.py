"""Jobs: commands as processes of their own, one thread each, so many at a time; none outlives the one who asked for them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from burnish.runs import atomic

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}
GRACE = 10.0
"""Seconds a job has to write a checkpoint after Ctrl-C before it is killed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """command: words, started without a shell. log: where what it prints goes (appended)."""

    name: str
    command: tuple[str, ...]
    log: Path


def run_jobs(jobs: Sequence[Job], workers: int = 2, done: Callable[[Job, int], None] | None = None) -> dict[str, int]:
    """Runs all; returns exit codes by name. A job that fails does not stop the others.

    done: called with (job, exit code) as each ends. An exception or Ctrl-C here interrupts the running ones, with their children, first.
    """
    waiting, codes = list(jobs), {}
    running: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[job.name] = (job, start(job.command, job.log))
            for name, (job, process) in list(running.items()):
                if process.poll() is not None:
                    codes[name] = process.returncode
                    del running[name]
                    if done is not None:
                        done(job, process.returncode)
            time.sleep(0.05)
    except BaseException:
        stop([process for _, process in running.values()])
        raise
    return codes


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A one-thread process, leader of a group of its own; what it prints is appended to `log`."""
    with atomic.explained(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | ONE_THREAD, start_new_session=True
            )  # fmt: skip


def stop(processes: Sequence[subprocess.Popen[bytes]], number: int = signal.SIGINT, grace: float = GRACE) -> None:
    """Sends the groups of these processes a signal, and kills what is left of them after `grace` seconds."""
    for process in processes:
        _signal(process, number)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(process.poll() is None for process in processes):
        time.sleep(0.05)
    for process in processes:
        _signal(process, signal.SIGKILL)
        process.wait()


def tail(log: Path, lines: int = 1) -> str:
    """The last lines of a log that are not empty, as one text; "" where there is none."""
    with contextlib.suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
    return ""


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
