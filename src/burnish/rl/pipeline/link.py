"""Between the two processes: the learner starts, tells and watches the generator; the generator hears, and ends with its learner.

The learner writes JSON lines to the generator's standard input: `{"version": 12}` once the weights of version 12 are in the folder. The
generator answers through the spool. When the pipe closes, or the parent is another, the learner is gone and the generator ends at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from burnish.runs import atomic
from burnish.runs.errors import UserError

LOG, FAILED, LOCK = "generator.log", "failed.json", "generator.lock"
USER_ERROR = 2
"""Exit status of a generator that met a UserError: its text is in FAILED, and starting it again would not help."""
PATIENCE = 60.0
"""Seconds that a generator waits for an older one of the same run to end."""


class Child:
    """The learner's hold on the generator process.

    command: starts it. folder: the spool's. restarts: how many deaths in a row, without a finished batch in between, are made good.
    """

    def __init__(self, command: Sequence[str], folder: Path, restarts: int = 3):
        self.command, self.folder, self.restarts = list(command), folder, restarts
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths, self.total_deaths = 0, 0

    def start(self) -> None:
        """Starts the process; what it prints goes to the log file in the folder."""
        (self.folder / FAILED).unlink(missing_ok=True)
        paths = [path or os.getcwd() for path in sys.path]
        with atomic.explained(self.folder / LOG), open(self.folder / LOG, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C in a terminal is the learner's to hear
            )

    def tell(self, message: dict[str, Any]) -> None:
        """One line. A process that is gone hears nothing; `watch` sees to that."""
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def watch(self) -> bool:
        """Is it there? Starts it again where it has died (then True). Raises UserError where it cannot go on."""
        assert self.process is not None
        status = self.process.poll()
        if status is None:
            return False
        if status == USER_ERROR and (self.folder / FAILED).exists():
            raise UserError(json.loads((self.folder / FAILED).read_text(encoding="utf-8"))["error"])
        self.deaths, self.total_deaths = self.deaths + 1, self.total_deaths + 1
        if self.deaths > self.restarts:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise UserError(
                f"the generator process ended {self.deaths} times in a row without finishing a batch (the last time with {how}): "
                f"{self._last_words()}; see {self.folder / LOG}, mend the cause and go on with --resume"
            )
        self.start()
        return True

    def close(self) -> None:
        """Ends the process: its input is closed, and where that is not enough it is killed."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        try:
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return "it said nothing"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:300]


class Inbox:
    """The generator's ear, a thread. version: the newest weights that the learner has told of. heard: called after each message."""

    def __init__(self, stream: IO[bytes], heard: Callable[[], None], ended: Callable[[], None] = lambda: os._exit(0)):
        self.version = -1
        self._stream, self._heard, self._ended = stream, heard, ended
        self._parent = os.getppid()

    def start(self) -> None:
        """Begins to listen."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        number, rest = self._stream.fileno(), b""
        try:
            while os.getppid() == self._parent:
                if not select.select([number], [], [], 1.0)[0]:
                    continue  # a process that the learner forked may hold the pipe open: the parent tells
                data = os.read(number, 65536)
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.version = max(self.version, int(json.loads(line)["version"]))
                self._heard()
        except Exception:
            traceback.print_exc()  # into the log: what follows ends the process without another word
        finally:
            self._ended()


def own_input() -> IO[bytes]:
    """Standard input as a stream that no child of this process inherits; in its place stands an empty one."""
    number = os.dup(0)
    os.set_inheritable(number, False)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return os.fdopen(number, "rb", buffering=0)


def lock(folder: Path) -> IO[bytes]:
    """Waits until no other generator works in this folder; the lock ends with the process. Raises UserError after a minute."""
    import fcntl

    file = open(folder / LOCK, "ab")  # noqa: SIM115 - held until the process ends
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() > end:
                raise UserError(f"another generator still works in {folder}; end it, or wait") from None
            time.sleep(0.05)
