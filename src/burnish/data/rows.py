"""Rows: what was read from a data set, where each row stood, and what was left out and why."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, overload

from burnish.runs.errors import UserError

BadRows = Literal["refuse", "skip"]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """One row that was left out. where: "file:line" (or "file:row n"); field: the column, where one is to blame."""

    where: str
    reason: str
    field: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclasses.dataclass
class Report:
    """The account of one source: `read` rows were seen, `kept` stay, every other one is in `skipped`.

    notes: counts of rows that were kept but changed (for example {"truncated": 3}).
    """

    source: str
    read: int = 0
    kept: int = 0
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    notes: dict[str, int] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Raises RuntimeError where a row was lost without an entry (a defect of burnish, never of the data)."""
        if self.read != self.kept + len(self.skipped):
            raise RuntimeError(f"{self.source}: {self.read} rows read, {self.kept} kept, {len(self.skipped)} reported as skipped")

    def summary(self) -> str:
        """One line for people: counts, with up to three reasons."""
        line = f"{self.source}: {self.kept} of {self.read} rows kept"
        if self.skipped:
            line += f", {len(self.skipped)} skipped ({'; '.join(map(str, self.skipped[:3]))}{'; ...' if len(self.skipped) > 3 else ''})"
        return line + "".join(f", {count} {name}" for name, count in self.notes.items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, every skipped row included."""
        return dataclasses.asdict(self)


class Gate:
    """Refuses a bad row, or counts it, as `bad_rows` says. Shared by everything that turns rows into training data."""

    def __init__(self, report: Report, bad_rows: BadRows = "refuse") -> None:
        if bad_rows not in ("refuse", "skip"):
            raise UserError(f"bad_rows is {bad_rows!r}; it must be 'refuse' or 'skip'")
        self.report, self.bad_rows = report, bad_rows

    def bad(self, where: str, reason: str, field: str | None = None, remedy: str = "mend it or set bad_rows to 'skip'") -> None:
        """Counts the row at `where` as skipped. Raises UserError instead where bad rows are refused."""
        if self.bad_rows == "refuse":
            raise UserError(f"{where}: {reason}; {remedy}")
        self.report.skipped.append(Skipped(where, reason, field))

    def close(self) -> Report:
        """The finished report. Raises UserError where nothing is left."""
        self.report.check()
        if self.report.kept == 0:
            reasons = Counter(one.reason for one in self.report.skipped).most_common(1)
            raise UserError(
                f"{self.report.source}: no row is left of {self.report.read}" + (f"; most often: {reasons[0][0]}" if reasons else "")
            )
        return self.report


class Rows(Sequence[dict[str, Any]]):
    """A list of rows (dictionaries with the same keys) with `where[i]` for each and the `report` of what was left out.

    format: "prompt" | "messages" | "prompt_completion" | "text". columns: all column names. number[i]: the row's number in its source,
    from 0, which stays the same whether or not rows before it were skipped.
    """

    def __init__(
        self, rows: list[dict[str, Any]], where: list[str], report: Report, format: str, columns: list[str], number: list[int] | None = None
    ) -> None:
        self.rows, self.where, self.report, self.format, self.columns = rows, where, report, format, columns
        self.number = list(range(len(rows))) if number is None else number
        assert len(self.rows) == len(self.where) == len(self.number)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Rows: ...
    def __getitem__(self, key: int | slice) -> dict[str, Any] | Rows:
        if isinstance(key, slice):
            return self.take(range(len(self))[key])
        return self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def take(self, indices: Sequence[int]) -> Rows:
        """The rows at these places, in this order; the report stays the source's."""
        places = list(indices)
        return Rows(
            [self.rows[i] for i in places],
            [self.where[i] for i in places],
            self.report,
            self.format,
            self.columns,
            [self.number[i] for i in places],
        )

    def map(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Rows:
        """Every row changed by `change`, which returns a new row."""
        rows = [change(dict(row)) for row in self.rows]
        return Rows(rows, self.where, self.report, self.format, sorted({key for row in rows for key in row}), self.number)
