"""Ctrl-C and SIGTERM: the first lets the step end, the second stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

ECHO = 3.0
"""Seconds after a signal in which a launcher's copy of it may still come."""


class StopSignals:
    """Context manager. `received`: the signal's number once one came, else None. Outside the main thread it does nothing.

    launched: a launcher passes signals on to processes that had a Ctrl-C from the terminal already: such an echo is no second one.
    """

    def __init__(self, launched: bool = False) -> None:
        self.launched = launched
        self.received: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._at = number, time.monotonic()
        elif not self.launched or time.monotonic() - self._at > ECHO:
            raise KeyboardInterrupt
