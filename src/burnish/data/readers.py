"""Read the rows of a file, a folder, a hub id or an object in memory, each with the place it stood at.

A reader yields `Raw`: the place, and either the row or what is wrong with it. Only what cannot be told apart into rows any more
(a truncated archive, a CSV with an open quote) raises at once.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from burnish.runs.errors import UserError, did_you_mean

TEXT_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
SUFFIXES = (*TEXT_SUFFIXES, *(f"{one}.gz" for one in TEXT_SUFFIXES), ".parquet", ".arrow")


class Raw(NamedTuple):
    """One row as read: `row` is None where `problem` says why. `field` is the column to blame, where there is one."""

    where: str
    row: dict[str, Any] | None
    problem: str | None = None


def suffix_of(path: Path) -> str:
    """The suffix that tells the format (".jsonl.gz" counts as one), or ""."""
    name = path.name.lower()
    return next((one for one in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(one)), "")


def read_file(path: Path) -> Iterator[Raw]:
    """The rows of one file. Raises UserError for a missing, empty or unreadable file and an unknown suffix."""
    suffix = suffix_of(path)
    if not suffix:
        raise UserError(f"{path}: unknown kind of file; wanted one of {', '.join(TEXT_SUFFIXES)} (also .gz), .parquet, .arrow")
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; write at least one row")
        if suffix == ".parquet":
            return _guarded(path, _parquet(path))
        if suffix == ".arrow":
            return _guarded(path, _arrow(path))
        kind = suffix.removesuffix(".gz")
        reader = {".csv": _csv, ".tsv": _csv, ".json": _json}.get(kind, _jsonl)
        return _guarded(path, reader(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _guarded(path: Path, rows: Iterable[Raw]) -> Iterator[Raw]:
    try:
        yield from rows
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the gzip archive is broken: {error}; copy it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _check_start(path: Path, start: bytes) -> bytes:
    """The bytes without a UTF-8 mark. Raises UserError for UTF-16 and UTF-32, which no line of the file could be read from."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}:1: the file is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
    return start.removeprefix(b"\xef\xbb\xbf")


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return out


# NaN and doubled keys are refused: Python's json would take both and lose what the writer meant.
_DECODER = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_no_duplicates)


def _jsonl(path: Path) -> Iterator[Raw]:
    offset = rows = 0
    with _open(path) as file:
        for number, raw in enumerate(file, start=1):
            line = _check_start(path, raw) if number == 1 else raw
            mark = len(raw) - len(line)
            if line.strip():
                rows += 1
                yield _json_line(f"{path}:{number}", line, offset + mark)
            offset += len(raw)
    if rows == 0:
        raise UserError(f"{path}: the file has no rows, only blank lines; write at least one row")


def _json_line(where: str, line: bytes, offset: int) -> Raw:
    try:
        row = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Raw(where, None, f"not UTF-8: byte 0x{line[error.start]:02x} at byte {offset + error.start} of the file")
    except json.JSONDecodeError as error:
        return Raw(where, None, f"broken JSON: {error.msg} at column {error.colno}")
    except ValueError as error:
        return Raw(where, None, f"broken JSON: {error}")
    except RecursionError:
        return Raw(where, None, "broken JSON: nested too deeply")
    return _as_row(where, row)


def _as_row(where: str, row: Any) -> Raw:
    if not isinstance(row, Mapping):
        return Raw(where, None, f"the row is {'a list' if isinstance(row, list) else type(row).__name__}, not an object with columns")
    return Raw(where, dict(row))


def _json(path: Path) -> Iterator[Raw]:
    """A JSON list of objects; a `.json` file that really holds one object a line is read as JSONL."""
    with _open(path) as file:
        data = _check_start(path, file.read())
    if not data.lstrip().startswith(b"["):
        yield from _jsonl(path)
        return
    try:
        rows = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start} of the file") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: broken JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: broken JSON: {error}") from None
    if not rows:
        raise UserError(f"{path}: the list is empty")
    for number, row in enumerate(rows, start=1):
        yield _as_row(f"{path}:row {number}", row)


def _csv(path: Path) -> Iterator[Raw]:
    """Values stay text: nothing guesses that 007 is a number or NA is missing."""
    csv.field_size_limit(sys.maxsize)
    with _open(path) as file:
        # Undecodable bytes travel as surrogates to the row they belong to, so that only that row is bad.
        text = _check_start(path, file.read()).decode("utf-8", errors="surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if ".tsv" in path.name.lower() else ",", strict=True)
    rows, line = 0, 1
    try:
        header = next(reader, [])
        if not header or not all(name.strip() for name in header) or len(set(header)) != len(header):
            raise UserError(f"{path}:1: the header row must name every column once; it is {', '.join(map(repr, header)) or 'empty'}")
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            if not values:
                continue
            rows += 1
            bad = next((ord(c) - 0xDC00 for value in values for c in value if 0xDC80 <= ord(c) <= 0xDCFF), None)
            if bad is not None:
                yield Raw(where, None, f"not UTF-8: byte 0x{bad:02x}")
            elif len(values) != len(header):
                yield Raw(where, None, f"{len(values)} fields where the header names {len(header)} columns")
            else:
                yield Raw(where, dict(zip(header, values)))
    except csv.Error as error:
        raise UserError(f"{path}:{line}: broken CSV: {error}") from None
    if rows == 0:
        raise UserError(f"{path}: the file has a header but no rows")


def _parquet(path: Path) -> Iterator[Raw]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield Raw(f"{path}:row {number}", row)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if number == 0:
        raise UserError(f"{path}: the file has no rows")


def _arrow(path: Path) -> Iterator[Raw]:
    import datasets
    import pyarrow

    try:
        data = datasets.Dataset.from_file(str(path))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable Arrow file: {str(error).splitlines()[0]}") from None
    return read_dataset(data, str(path))


def read_dataset(data: Any, name: str) -> Iterator[Raw]:
    """The rows of a `datasets.Dataset` or any iterable of dictionaries; `name` stands before the row number."""
    if hasattr(data, "with_format"):
        data = data.with_format(None)  # torch or numpy formats would turn text lists into arrays
    for number, row in enumerate(data, start=1):
        yield _as_row(f"{name}:row {number}", row)


def choose_split(data: Any, split: str | None, name: str) -> Any:
    """One split of a mapping of splits: the named one, or "train", or the only one. Raises UserError naming the splits there."""
    if not isinstance(data, Mapping):
        return data
    wanted = split or ("train" if "train" in data or len(data) != 1 else next(iter(data)))
    if wanted not in data:
        raise UserError(f"{name}: there is no split {wanted!r}; {did_you_mean(wanted, list(data))}" + ("" if split else "; set split"))
    return data[wanted]


def read_folder(path: Path, split: str | None) -> Iterator[Raw]:
    """A folder written by `save_to_disk`, or one that holds exactly one data file (for the split, where one is named)."""
    if any((path / mark).exists() for mark in ("dataset_dict.json", "dataset_info.json", "state.json")):
        import datasets

        try:
            data = datasets.load_from_disk(str(path))
        except Exception as error:  # the library raises whatever its file layer raises
            raise UserError(f"{path}: not a readable saved data set: {str(error).splitlines()[0]}") from None
        return read_dataset(choose_split(data, split, str(path)), str(path))
    files = sorted(one for one in path.iterdir() if one.is_file() and suffix_of(one))
    if split:
        files = [one for one in files if re.split(r"[-._]", one.name)[0] == split]
    if len(files) == 1:
        return read_file(files[0])
    if not files:
        raise UserError(f"{path}: the folder holds no {f'data file of the split {split!r}' if split else 'data file'}")
    raise UserError(
        f"{path}: the folder holds {len(files)} data files ({', '.join(one.name for one in files[:5])}); name one, or set split"
    )


def read_hub(name: str, split: str | None) -> Iterator[Raw]:
    """A data set of the hub, "owner/name" or "owner/name:config". Raises UserError with the library's own reason."""
    import datasets

    hub_id, _, config = name.partition(":")
    try:
        data = datasets.load_dataset(hub_id, config or None, split=split)
    except Exception as error:  # network, names and licences fail in many ways; the reason is what the user needs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{name}: no such file or folder here, and it could not be loaded from the hub: {reason}") from None
    return read_dataset(choose_split(data, split, name), name)
