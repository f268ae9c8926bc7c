"""The fields of a configuration as a help text: one section for each part, one field a line with its meaning below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 100


def fields_text(rows: Sequence[tuple[str, str, str, str]], width: int = WIDTH) -> str:
    """rows: (dotted name, type, default as JSON or "required", meaning), as `describe_fields` gives them."""
    lines: list[str] = []
    section: str | None = None
    parts = list(dict.fromkeys(row[0].rpartition(".")[0] for row in rows))
    for name, kind, default, meaning in sorted(rows, key=lambda row: parts.index(row[0].rpartition(".")[0])):
        part = name.rpartition(".")[0]
        if part != section:
            lines += ([""] if lines else []) + [f"{part or 'general'}:"]
            section = part
        state = {"required": "required", "null": "unset"}.get(default, f"default {default}")
        lines.append(f"  --{name}  {kind.removesuffix(' | None')} ({state})")
        lines += textwrap.wrap(meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)
