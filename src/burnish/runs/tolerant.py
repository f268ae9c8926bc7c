"""Reading files of a run that may be torn, young or damaged: never fails; what is left out is listed in `problems`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How metrics.jsonl writes floats that JSON has no word for."""


def finite(value: Any) -> TypeGuard[float]:
    """True for a finite number (booleans are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_lines(path: Path, problems: list[str], limit: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) for each whole line of a JSONL file, of the first `limit` lines; others are noted."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror or error}")
        return
    for n, line in enumerate(lines[:limit], start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield n, row
        else:
            torn = " (torn: the run was interrupted while writing it)" if n == len(lines) else ""
            note = f"{path.name}, line {n}: not a JSON object{torn}; left out"
            if note not in problems:
                problems.append(note)


def by_step(rows: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """(one row for each step, rising, later rows of a step laid over earlier ones; rows without a step, which are left out)."""
    found: dict[int, dict[str, Any]] = {}
    nameless = 0
    for row in rows:
        step = row.get("step")
        if isinstance(step, int) and not isinstance(step, bool):
            named = {key: NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in row.items()}
            found[step] = found.get(step, {}) | named
        else:
            nameless += 1
    return [found[step] for step in sorted(found)], nameless


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Entries of a folder whose whole name fits the pattern, by the number in its first group; {} where there is no folder."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {int(match[1]): entry for entry in entries if (match := re.fullmatch(pattern, entry.name))}
    return dict(sorted(found.items()))
