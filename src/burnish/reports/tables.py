"""Result tables with 95 % intervals: Markdown for files and pipes, rich for terminals, plain rows for the HTML report.

A row is a mapping from column name to a value. A value with `mean`, `low` and `high` (`runs.stats.Interval`, or a dict with these keys)
is written with its interval; columns named seconds, flops or ending in _mb get their units.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from burnish.reports import words
from burnish.reports.summary import Arm, Check

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]


def cell(column: str, value: Any) -> str:
    """One value as text."""
    if value is None:
        return "–"
    if isinstance(value, Mapping) and "mean" in value:
        return words.interval(value["mean"], value.get("low"), value.get("high"))
    if all(hasattr(value, name) for name in ("mean", "low", "high")):
        return words.interval(value.mean, value.low, value.high)
    if isinstance(value, int | float) and not isinstance(value, bool):
        unit = column.lower()
        if unit in ("seconds", "time"):
            return words.seconds(value)
        if unit == "flops":
            return f"{value:.2e}" if value else "0"
        return words.megabytes(value) if unit.endswith("_mb") else words.number(value)
    return words.number(value) if isinstance(value, bool) else str(value)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def right_aligned(rows: Sequence[Row], column: str) -> bool:
    """True where a column holds numbers only."""
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and not any(isinstance(value, str | bool) for value in values)


def texts(rows: Sequence[Row], columns: Sequence[str]) -> list[list[str]]:
    """The cells as texts, row by row."""
    return [[cell(column, row.get(column)) for column in columns] for row in rows]


def markdown(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """A Markdown table whose columns line up in plain text too; "" for no rows."""
    if not rows:
        return ""
    columns = list(columns or columns_of(rows))
    body = [[_markdown_cell(text) for text in row] for row in ([*columns], *texts(rows, columns))]
    right = [right_aligned(rows, column) for column in columns]
    widths = [max(3, *(len(row[index]) for row in body)) for index in range(len(columns))]
    lines = [_line(row, widths, right) for row in body]
    rule = [("-" * (width - 1) + ":") if side else "-" * width for width, side in zip(widths, right)]
    return "\n".join([lines[0], _line(rule, widths, right), *lines[1:]]) + "\n"


def rich_table(rows: Sequence[Row], title: str = "", columns: Sequence[str] | None = None) -> Table:
    """The same for a terminal. Texts are shown as they are: rich's markup in them has no effect."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    columns = list(columns or columns_of(rows))
    table = Table(title=Text(title) if title else None, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    body = texts(rows, columns)
    for index, column in enumerate(columns):
        short = max((len(row[index]) for row in body), default=0) <= 24  # an interval is never broken in two; a long note may be
        table.add_column(Text(column), justify="right" if right_aligned(rows, column) else "left", no_wrap=short, overflow="fold")
    for row in body:
        table.add_row(*(Text(words.safe(text)) for text in row))
    return table


def show(rows: Sequence[Row], title: str = "", columns: Sequence[str] | None = None, file: IO[str] | None = None) -> None:
    """Prints the table: rich in a terminal, Markdown when piped (never cut to a width)."""
    from rich.console import Console

    console = Console(file=file or sys.stdout)
    if console.is_terminal:
        console.print(rich_table(rows, title, columns))
        return
    out = file or sys.stdout
    if title:
        out.write(f"{title}\n\n")
    out.write(markdown(rows, columns))


def arm_rows(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """The arms of an experiment as rows; columns that no arm fills are left out."""
    rows = []
    for arm in arms:
        success = None if arm.success is None else {"mean": arm.success, "low": arm.low, "high": arm.high}
        row = {
            "model": arm.name,
            "success [95 %]": success,
            "n": arm.n,
            "seconds": arm.seconds,
            "FLOPs": arm.flops,
            "note": arm.note or None,
        }
        rows.append(row)
    filled = [column for column in columns_of(rows) if any(row[column] is not None for row in rows)]
    return [{column: row[column] for column in filled} for row in rows]


def check_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks of an experiment as rows."""
    return [
        {"check": check.name, "wanted": check.wanted, "got": check.got, "verdict": "passed" if check.passed else "FAILED"}
        for check in checks
    ]


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "| " + " | ".join(text.rjust(width) if side else text.ljust(width) for text, width, side in zip(row, widths, right)) + " |"


def _markdown_cell(text: str) -> str:
    return words.safe(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
