"""The sandbox level `process`: one untrusted Python program in a limited, watched process of its own.

It stops programs that hang, eat memory, fill the disk with one file, print without end, start processes without end or leave some
behind, and it hands over nothing of this process's environment. It does NOT stop a program from
- using the network;
- reading and writing files that this user may read and write (`/proc` of this user's other processes and their environment included);
- sending signals to this user's other processes;
- filling the disk with many files.
So it is for code that is likely to be bad by accident. Where code may be hostile, run burnish itself as a user, or in a container, that
has nothing to lose. Memory is limited for each process, not for all together. On macOS what leaves its process group is not found again.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from burnish.chat.sandbox import supervisor
from burnish.runs.errors import UserError
from burnish.runs.threads import available_cpus

LEVEL = "process"
SLACK = 10.0
"""Seconds that starting and ending may take on a busy machine, beyond the program's own."""


@dataclasses.dataclass(frozen=True)
class Ran:
    """What became of a program.

    status: "ended" (by itself; see `code`), "time" or "output" (over that limit), "processes" (too many), "killed" (it took its
    supervisor down with it), or "broken" (the sandbox's own fault, never the program's; `stderr` says why).
    code: the exit status, negative for a signal, None where it did not end by itself. level: of the sandbox. left: something it started
    could not be ended.
    """

    status: str
    code: int | None = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    level: str = LEVEL
    left: bool = False

    @property
    def ok(self) -> bool:
        """It ended by itself with exit status 0."""
        return self.status == "ended" and self.code == 0


class Process:
    """seconds: of wall time (and, one more, of CPU time). memory_mb: address space of each process. output_bytes: of stdout and stderr
    together. file_mb: longest file it may write. processes: how many it may have at once, itself included. open_files: of each.
    concurrency: programs at once; None: one for each CPU. Safe from any thread.
    """

    def __init__(
        self,
        seconds: float = 10.0,
        memory_mb: int = 1024,
        output_bytes: int = 1_000_000,
        file_mb: int = 64,
        processes: int = 16,
        open_files: int = 64,
        concurrency: int | None = None,
    ) -> None:
        if os.name != "posix":
            raise UserError("sandbox process: limits of processes need Linux or macOS; run burnish there")
        places = available_cpus() if concurrency is None else concurrency
        given = {"seconds": seconds, "memory_mb": memory_mb, "output_bytes": output_bytes, "file_mb": file_mb, "processes": processes,
                 "open_files": open_files, "concurrency": places}  # fmt: skip
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
                raise UserError(f"sandbox process: {name} is {value!r}; it must be a number above 0")
        self.seconds, self.concurrency = float(seconds), int(places)
        self.limits = {"memory": int(memory_mb * 2**20), "output_bytes": int(output_bytes), "file_bytes": int(file_mb * 2**20),
                       "processes": int(processes), "open_files": int(open_files)}  # fmt: skip
        self._places = threading.BoundedSemaphore(self.concurrency)

    def run(self, program: str, stdin: str = "", seconds: float | None = None) -> Ran:
        """Runs the program's text with this interpreter, in an empty folder that is removed afterwards.

        seconds: in place of the default.
        """
        with self._places, tempfile.TemporaryDirectory(prefix="burnish-", ignore_cleanup_errors=True) as folder:
            start = time.monotonic()
            limit = self.seconds if seconds is None else seconds
            try:
                Path(folder, "program.py").write_bytes(program.encode("utf-8", "surrogatepass"))
                found = _supervised(self._order(folder, stdin, limit), limit)
            except OSError as error:
                found = {"broken": f"{type(error).__name__}: {error.strerror}"}
            if found is None:
                _sweep(folder)
            took = time.monotonic() - start
        if found is None:
            return Ran("killed", seconds=took)
        if "broken" in found or found.get("status") == "abandoned":
            return Ran("broken", stderr=str(found.get("broken", "the supervisor lost its order")), seconds=took)
        text = {name: base64.b64decode(found[name]).decode("utf-8", "replace") for name in ("stdout", "stderr")}
        return Ran(found["status"], found["code"], **text, seconds=took, left=bool(found.get("left")))

    def _order(self, folder: str, stdin: str, seconds: float) -> dict[str, Any]:
        environment = {"HOME": folder, "TMPDIR": folder, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8",
                       "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
        return {
            **self.limits,
            "seconds": seconds,
            "folder": folder,
            "environment": environment,
            "command": [sys.executable, "-s", "-P", "-B", str(Path(folder, "program.py"))],
            "stdin": base64.b64encode(stdin.encode("utf-8", "replace")).decode(),
        }


def _supervised(order: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The supervisor's record; None where it died.

    Its stdin stays open meanwhile: when this process dies, the supervisor sees the end and cleans up.
    """
    command = [sys.executable, "-I", "-S", "-B", supervisor.__file__]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            answer = _read(process.stdout, time.monotonic() + seconds + supervisor.GRACE + SLACK)
        except BrokenPipeError:
            return {"broken": "the supervisor did not start"}
        finally:
            if process.poll() is None and not _ends(process):
                process.kill()
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _read(stream: IO[bytes], end: float) -> bytes:
    """Everything up to the stream's end, or to the deadline."""
    data = b""
    while (left := end - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
        chunk = os.read(stream.fileno(), 1 << 16)
        if not chunk:
            break
        data += chunk
    return data


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Closes its stdin, upon which a supervisor ends what it watches and itself; whether it did."""
    assert process.stdin is not None
    try:
        process.stdin.close()
        process.wait(timeout=supervisor.GRACE + 1.0)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def _sweep(folder: str) -> None:
    """Kills what a program left that had killed its supervisor: processes whose environment names its folder (Linux)."""
    mark, end = f"HOME={folder}".encode(), time.monotonic() + supervisor.GRACE
    while time.monotonic() < end:
        found = []
        for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
            with contextlib.suppress(OSError):
                if name.isdigit() and mark in Path("/proc", name, "environ").read_bytes():
                    found.append(int(name))
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, sign)
        if not found:
            return
