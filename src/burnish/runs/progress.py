"""Progress bars for people: rate and time left; silent where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SHOWN = ("loss", "reward", "eval/reward", "eval/loss")


class _Rate(ProgressColumn):
    """Things a second, or seconds a thing where they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Bar:
    """A context manager with `update(done, row)`. On standard error; it writes nothing where that is no terminal or `silent` is set."""

    def __init__(self, total: int, label: str, silent: bool = False, console: Console | None = None):
        self.total = total
        console = console or Console(file=sys.stderr)
        self.shown = not silent and console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self.shown,
        )
        self._task = self._progress.add_task(label, total=total, note="")
        self._first = True

    def update(self, done: int, row: Mapping[str, Any] | str | None = None) -> None:
        """Sets the count; row: metrics, of which the usual few are shown, or a note."""
        if not self.shown:
            return
        if isinstance(row, Mapping):
            row = " ".join(f"{key} {float(row[key]):.4g}" for key in SHOWN if isinstance(row.get(key), (int, float)))
        if self._first and done > 1:  # a resumed run: what was done before must not count as speed
            self._progress.reset(self._task, completed=done)
        self._first = False
        self._progress.update(self._task, completed=done)
        if row is not None:
            self._progress.update(self._task, note=row)

    def __enter__(self) -> Bar:
        if self.shown:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self.shown:
            self._progress.stop()


def bar(total: int, label: str, silent: bool = False) -> Bar:
    """A bar of `total` steps; silent: for --json."""
    return Bar(total, label, silent)
