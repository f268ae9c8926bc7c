"""What recipes share: reading the user's own fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number(given: Mapping[str, Any], field: str, default: int) -> int:
    """A field of the user's that a recipe's part depends on; a wrong type is refused later, where its place is known."""
    value = given.get(field, default)
    return value if isinstance(value, int) and value > 0 else default
