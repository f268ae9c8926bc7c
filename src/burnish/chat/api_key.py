"""An endpoint's key: read from an environment variable or a file when it is needed, never part of a config, a message or a saved object."""

from __future__ import annotations

import os
import re
from pathlib import Path

from burnish.runs.errors import UserError

HIDDEN = "[key]"
NO_KEY = "no-key"
"""What is sent where no key is configured: local servers want the header but not its value."""
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_WORD = re.compile(r"[A-Z]{1,16}[0-9]{0,3}|[0-9]{1,3}")
_FIRST = 4
"""Characters of what may be a key that a message shows."""
_SHORTEST = 6
"""Shorter keys ("none", "EMPTY") are no secrets, and taking them out of answers would spoil these."""


def read_key(where: str, variable: str | None, file: str | None) -> str:
    """The key, or NO_KEY where neither is given. where: begins the error.

    Raises UserError, which never shows a value, for both at once, a variable that is not set or no variable's name, an unreadable
    file, and a key that cannot stand in a header.
    """
    if variable is not None and file is not None:
        raise UserError(f"{where}: give api_key_env or api_key_file, not both")
    if variable is not None:
        if not _VARIABLE.fullmatch(variable):
            raise UserError(
                f"{where}: api_key_env is not the name of an environment variable (capitals, digits and _); "
                "put the key in a variable, e.g. JUDGE_KEY, and give that name"
            )
        key, source = os.environ.get(variable, ""), f"the environment variable {shown(variable)}"
    elif file is not None:
        try:
            key, source = Path(file).expanduser().read_text(encoding="utf-8"), f"the file {file}"
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UserError(f"{where}: cannot read api_key_file {file}: {reason}; check the path") from None
    else:
        return NO_KEY
    key = key.strip()
    if not key:
        raise UserError(f"{where}: {source} is not set or empty; put the key there")
    if not re.fullmatch(r"[!-~]+", key):
        raise UserError(f"{where}: the key in {source} has a space or a character that no key has; store it again")
    return key


def shown(variable: str) -> str:
    """The name as a message may show it: whole where it looks like a variable's, else its first characters, for it may be a key."""
    return variable if all(_WORD.fullmatch(word) for word in variable.strip("_").split("_")) else f"{variable[:_FIRST]}..."


def hide(text: str, key: str) -> str:
    """The text with every occurrence of the key taken out: some servers repeat it in their errors."""
    return text.replace(key, HIDDEN) if len(key) >= _SHORTEST and key != NO_KEY else text
