"""A helper process behind a clock: one JSON line in, one out; killed where an answer takes too long or too much memory."""

from __future__ import annotations

import atexit
import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

MEMORY = 2 * 1024**3
START_SECONDS = 120.0
"""How long a worker may take to import its libraries on a busy machine."""


class Worker:
    """Asks `python -m module`, one question at a time; safe from any thread. The process starts with the first question."""

    def __init__(self, module: str, seconds: float) -> None:
        self.module = module
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        atexit.register(self.close)

    def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The worker's answer, or None where the time ran out or the process died on it (the next question starts another).

        Raises RuntimeError where the process does not start at all.
        """
        with self._lock:
            process = self._started()
            assert process.stdin is not None
            line = None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
                line = self._next(self.seconds)
            if line is None:
                self._kill()
                return None
            return dict(json.loads(line))

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            self._kill()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._kill()
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            self._lines = queue.Queue()
            threading.Thread(target=_read, args=(self._process, self._lines), daemon=True).start()
            if self._next(START_SECONDS) is None:
                self._kill()
                raise RuntimeError(f"the helper process did not start; `python -m {self.module}` shows why")
        return self._process

    def _next(self, seconds: float) -> str | None:
        """The process's next line; None where the time is up or it died."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
            self._process = None


def _read(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    """Moves the process's lines into a queue, so that waiting for one has a clock; None at its end."""
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # closed while reading
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


def serve(prepare: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """The process's side: limits its memory, prepares (imports), says that it is ready and answers until the input closes."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing but answers goes out
    answer = prepare()
    print(json.dumps({"ready": True}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)
