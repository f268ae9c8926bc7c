"""Errors that are the user's to mend: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one line that says what is wrong, where (file, line, field) and what to do."""


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None where none is close."""
    found = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A half sentence to append to an error about an unknown name."""
    options = sorted(candidates)
    close = nearest(name, options)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(options)}"
