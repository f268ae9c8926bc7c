"""How rewards load the user's functions and report what these did wrong: one line with function, item and remedy."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from burnish.runs.errors import UserError
from burnish.runs.parts import find

PACKAGE = "burnish.rl.rewards"


def load(function: Any) -> Any:
    """A function or object; a name is looked up ("module:function", "file.py:function")."""
    return find(PACKAGE, function) if isinstance(function, str) else function


def function_name(function: Any) -> str:
    """As shown in metrics and messages."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def broke(name: str, item: str, error: Exception) -> UserError:
    """The function raised: where in its own code, and what."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(__file__).parent != Path(frame.filename).parent]
    place = f" ({inside[-1].filename}, line {inside[-1].lineno})" if inside else ""
    text = " ".join(str(error).split()) or "no message"
    return UserError(f"reward {name!r} raised {type(error).__name__}: {text}{place} for item {item!r}; mend the function")
