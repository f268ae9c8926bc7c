"""The gate between two sides: each does a step when told, reports its CPU seconds, and waits."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class Gate:
    """Counts the process's CPU seconds between two ticks, and those inside `part`.

    told: a stream; a line "go" starts the next step, an empty read ends the side. Reports go to `out`, one line of JSON a step.
    """

    def __init__(self, told: TextIO = sys.stdin, out: TextIO = sys.stdout):
        self.told, self.out = told, out
        self.parts: dict[str, float] = {}
        self.notes: dict[str, Any] = {}
        self._start = 0.0

    def ready(self, **what: Any) -> None:
        """Set up: say so and wait for the first "go"."""
        self._say(what)
        self._wait()

    def tick(self) -> None:
        """A step is done: report it and wait for the next "go"."""
        self._say({"cpu": time.process_time() - self._start, **self.parts, **self.notes})
        self._wait()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """CPU seconds inside count as `name`, too."""
        start = time.process_time()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + time.process_time() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its CPU seconds counted as `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return call

    def _say(self, what: dict[str, Any]) -> None:
        print(json.dumps(what), file=self.out, flush=True)

    def _wait(self) -> None:
        if self.told.readline().strip() != "go":
            sys.exit(0)
        self.parts, self.notes = {}, {}
        self._start = time.process_time()
