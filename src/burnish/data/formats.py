"""Load a data set in one of TRL's formats, every row checked: `load_rows`.

Formats (columns beside these are kept and reach rewards):
- "prompt": `prompt`, text or messages;
- "prompt_completion": `prompt` and `completion`, both text or both messages;
- "messages": a whole conversation; - "text": plain text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.chat.messages import check as check_messages
from burnish.chat.messages import check_text, check_tools, kind_of
from burnish.data.readers import Raw, choose_split, read_dataset, read_file, read_folder, read_hub, suffix_of
from burnish.data.rows import BadRows, Gate, Report, Rows
from burnish.runs import parts
from burnish.runs.errors import UserError, did_you_mean, nearest

FORMATS: dict[str, tuple[str, ...]] = {
    "prompt_completion": ("prompt", "completion"),
    "messages": ("messages",),
    "prompt": ("prompt",),
    "text": ("text",),
}
_NAME = re.compile(r"\{\{|\}\}|\{(\w+)\}")


def detect(columns: Iterable[str]) -> str | None:
    """The format that these columns make, or None. A data set that fits several is the first of FORMATS."""
    there = set(columns)
    return next((name for name, needed in FORMATS.items() if there.issuperset(needed)), None)


def load_rows(
    source: Any,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    *,
    format: str | None = None,
    system: str | None = None,
    as_messages: bool = False,
    bad_rows: BadRows = "refuse",
    limit: int | None = None,
    map: Callable[[dict[str, Any]], dict[str, Any]] | str | None = None,
    tools_column: str = "tools",
) -> Rows:
    """Rows of a path (JSONL, JSON, CSV, each also .gz; Parquet; Arrow; a saved or plain folder), a list of dictionaries, a
    `datasets.Dataset` or a hub id "owner/name[:config]".

    columns: new name -> column, or -> a template of columns, such as {"prompt": "Q: {question}\\nA:", "completion": "answer"};
    the columns named on the right stay as they are. format: one of FORMATS; by default detected. system: a system message for
    every row that has none (text prompts become messages). as_messages: text prompts and completions become user and assistant
    messages. limit: reads only the first rows. map: a function, or its name ("file.py:name", "package.module:name"), that changes every raw
    row before all this; a row for which it raises is a bad row.

    Raises UserError naming file, line and column for the first bad row, or (bad_rows="skip") lists every bad row in `.report`; for a
    missing or empty file, a missing column, an unknown format, and where no row is left.
    """
    if format is not None and format not in FORMATS:
        raise UserError(f"format is {format!r}; {did_you_mean(format, FORMATS)}")
    name, found = _open(source, split)
    raws = list(itertools.islice(found, limit))
    if not raws:
        raise UserError(f"{name}: there are no rows")
    report = Report(name, read=len(raws))
    places = {raw.where: number for number, raw in enumerate(raws)}
    gate = Gate(report, bad_rows)
    change = parts.find("burnish.data", map) if isinstance(map, str) else map
    readable: list[tuple[int, str, dict[str, Any]]] = []
    for number, raw in enumerate(raws):  # what cannot be read comes first: without it, the columns are not known
        if raw.row is None:
            gate.bad(raw.where, raw.problem or "unreadable")
        else:
            try:
                readable.append((number, raw.where, raw.row if change is None else _changed(change, raw.row)))
            except _BadRow as error:
                gate.bad(raw.where, error.reason)
    if not readable:
        gate.close()
    there = list(dict.fromkeys(key for _, _, row in readable for key in row))
    maker = _Maker(name, there, dict(columns or {}), format, system, as_messages, tools_column)
    kept: list[tuple[int, str, dict[str, Any]]] = []
    for number, where, row in readable:
        try:
            kept.append((number, where, maker.make(row)))
        except _BadRow as error:
            gate.bad(where, error.reason, error.field)
    report.kept = len(kept)
    report.skipped.sort(key=lambda one: places[one.where])
    gate.close()
    return Rows([row for _, _, row in kept], [where for _, where, _ in kept], report, maker.format, maker.columns, [n for n, _, _ in kept])


def _open(source: Any, split: str | None) -> tuple[str, Iterator[Raw]]:
    """A name for messages, and the raw rows."""
    if isinstance(source, Rows):
        return source.report.source, iter([Raw(where, row) for where, row in zip(source.where, source.rows)])
    if not isinstance(source, (str, Path)):
        name = "data" if isinstance(source, Sequence) else type(source).__name__
        if isinstance(source, bytes) or not isinstance(source, Iterable):
            raise UserError(f"data is {kind_of(source)}; it must be a path, a hub id, a Dataset or a list of dictionaries")
        return name, read_dataset(choose_split(source, split, name), name)
    path = Path(source).expanduser()
    if path.is_dir():
        return str(path), read_folder(path, split)
    if path.exists():
        return str(path), read_file(path)
    if isinstance(source, Path) or suffix_of(path) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?", source):
        folder = path.parent
        close = nearest(path.name, [one.name for one in folder.iterdir()]) if folder.is_dir() else None
        hint = f"did you mean {close!r}?" if close else (f"the folder {folder} does not exist" if not folder.is_dir() else "check the path")
        raise UserError(f"{path}: no such file; {hint}")
    return source, read_hub(source, split)


class _BadRow(Exception):
    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


def _changed(change: Callable[[dict[str, Any]], dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    """The row that the user's own function makes of this one. Raises _BadRow where it breaks or returns anything else."""
    name = getattr(change, "__name__", type(change).__name__)
    try:
        out = change(dict(row))
    except UserError as error:
        raise _BadRow(str(error)) from None
    except Exception as error:
        raise _BadRow(f"map {name} broke: {type(error).__name__}: {error}") from None
    if not isinstance(out, Mapping):
        raise _BadRow(f"map {name} returned {kind_of(out)}; it must return the row as a dictionary")
    return dict(out)


class _Maker:
    """Turns a raw row into a checked one; the file-wide questions (which format, do the columns exist) are settled once."""

    def __init__(
        self,
        name: str,
        there: list[str],
        mapping: dict[str, str],
        format: str | None,
        system: str | None,
        as_messages: bool,
        tools_column: str,
    ) -> None:
        self.mapping, self.system, self.tools_column = mapping, system, tools_column
        self.as_messages = as_messages or system is not None
        listed = ", ".join(there) or "none"
        for new, spec in mapping.items():
            for column in _sources(spec):
                if column not in there:
                    close = nearest(column, there)
                    hint = f"did you mean {close!r}? " if close else ""
                    raise UserError(f"{name}: columns.{new} names {column!r}, which is not there; {hint}columns there: {listed}")
            if new in there and new not in _sources(spec):
                raise UserError(
                    f"{name}: columns.{new} would hide the column {new!r} that is there; rename it in the data or leave columns.{new} out"
                )
        self.columns = list(dict.fromkeys([*there, *mapping]))
        found = format or detect(mapping) or detect(self.columns)
        if format is None and found == "prompt" and "completion" in self.columns:
            found = "prompt_completion"  # the mapping changes the prompt alone
        missing = [] if found is None else [column for column in FORMATS[found] if column not in self.columns]
        if found is None or missing:
            wanted = missing[0] if missing else "prompt"
            near = nearest(wanted, there)
            remedy = f"set columns.{wanted} to one of them" + (f" (nearest: {near!r})" if near else "")
            also = "" if missing else " (nor messages, nor text)"
            raise UserError(f"{name}: there is no column {wanted!r}{also}; columns there: {listed}; {remedy}")
        if found == "text" and self.as_messages:
            raise UserError(
                f"{name}: the data is plain text, which has no place for {'a system message' if system else 'messages'}; leave it out"
            )
        self.format = found

    def make(self, row: dict[str, Any]) -> dict[str, Any]:
        """A new row with all columns, mapped, normalised and checked. Raises _BadRow."""
        out = {column: row.get(column) for column in self.columns}
        for new, spec in self.mapping.items():
            out[new] = _fill(spec, row, new)
        for column in FORMATS[self.format]:
            if column not in self.mapping and column not in row:
                raise _BadRow(f"the row has no column {column!r} (columns there: {', '.join(row) or 'none'})", column)
            out[column] = self._value(column, out[column])
        if self.as_messages:
            self._to_messages(out)
        if self.format == "prompt_completion" and isinstance(out["prompt"], str) != isinstance(out["completion"], str):
            raise _BadRow(
                "prompt and completion must both be text or both be messages; set as_messages for text beside messages", "completion"
            )
        if out.get(self.tools_column) is not None:
            out[self.tools_column] = _checked(check_tools, out[self.tools_column], self.tools_column)
        return out

    def _value(self, column: str, value: Any) -> Any:
        if isinstance(value, str):
            if column == "messages":
                raise _BadRow("messages is text; it must be a list of messages (role and content)", column)
            if not value.strip():
                raise _BadRow(f"{column} is empty", column)
            return _checked(check_text, value, column)
        if column == "text" or not isinstance(value, (list, tuple)):
            wanted = {"text": "text", "messages": "a list of messages"}.get(column, "text or a list of messages")
            shown = f" ({value!r})" if isinstance(value, (int, float)) else ""
            raise _BadRow(f"{column} is {kind_of(value)}{shown}; it must be {wanted}", column)
        if not value:
            raise _BadRow(f"{column} is empty", column)
        return _checked(check_messages, value, column)

    def _to_messages(self, out: dict[str, Any]) -> None:
        first = FORMATS[self.format][0]
        if isinstance(out[first], str):
            out[first] = [{"role": "user", "content": out[first]}]
        if self.format == "prompt_completion" and isinstance(out["completion"], str):
            out["completion"] = [{"role": "assistant", "content": out["completion"]}]
        if self.system is not None and out[first][0]["role"] not in ("system", "developer"):
            out[first] = [{"role": "system", "content": self.system}, *out[first]]


def _checked(check: Any, value: Any, column: str) -> Any:
    try:
        return check(value, column)
    except UserError as error:
        raise _BadRow(str(error), column) from None


def _sources(spec: str) -> list[str]:
    """The columns a mapping's right side names: those of a template, or the one column."""
    return [match[1] for match in _NAME.finditer(spec) if match[1]] if "{" in spec else [spec]


def _fill(spec: str, row: dict[str, Any], new: str) -> Any:
    for column in _sources(spec):
        if row.get(column) is None:
            raise _BadRow(f"the row has no {column!r}, which {new} is made of", column)
    if "{" not in spec:
        return row[spec]

    def value(match: re.Match[str]) -> str:
        if not match[1]:
            return match[0][0]
        if isinstance(row[match[1]], (dict, list, tuple)):
            raise _BadRow(f"{match[1]} is {kind_of(row[match[1]])}; only text and numbers go into a template", match[1])
        return str(row[match[1]])

    return _NAME.sub(value, spec)
