"""Item: one problem as a curriculum draws it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a rollout may go. max_new_tokens counts sampled tokens of one turn; chunk is a thinker's chunk length in tokens."""

    max_new_tokens: int = 256
    max_turns: int = 1
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_turns", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"limits.{name} is {value}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class Item:
    """What `Curriculum.draw` yields.

    id: names the problem; equal ids are the same problem (pass rates are kept by id).
    prompt: token ids, or chat messages (`{"role": ..., "content": ...}`) which the thinker renders once.
    group_size: rollouts wanted for it.
    columns: the task's or data set's other columns; rewards receive them.
    """

    id: str
    prompt: Sequence[int] | Sequence[dict[str, Any]]
    group_size: int = 1
    limits: Limits = Limits()
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"item {self.id!r}: group_size is {self.group_size}; it must be at least 1")
        if not self.prompt:
            raise ValueError(f"item {self.id!r}: the prompt is empty")

    @property
    def is_chat(self) -> bool:
        """True where the prompt is a list of messages rather than token ids."""
        return isinstance(self.prompt[0], dict)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The prompt's messages. Raises TypeError where it is token ids."""
        if not self.is_chat:
            raise TypeError(f"item {self.id!r} has a prompt of token ids, not messages")
        return list(self.prompt)  # type: ignore[arg-type]

    @property
    def token_ids(self) -> list[int]:
        """The prompt's token ids. Raises TypeError where it is messages, which the thinker renders."""
        if self.is_chat:
            raise TypeError(f"item {self.id!r} has a prompt of messages, not token ids")
        return [int(token) for token in self.prompt]  # type: ignore[arg-type]
