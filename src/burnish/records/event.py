"""Event: one line of the append-only trace of everything agents do."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Event:
    """kind: what happened ("message", "tool_call", "tool_result", "error" ...). time: seconds since the epoch.

    episode and agent say where and who; data holds JSON values only.
    """

    kind: str
    time: float
    episode: str | None = None
    agent: str | None = None
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Event:
        """The inverse of `to_dict`."""
        return cls(**data)
