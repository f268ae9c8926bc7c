"""ChatModel: messages and tools in; a message, its usage and, where the model runs in this process, the recorded Turn out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from burnish.chat.messages import Message, text_of
from burnish.records import Turn


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens of one call, or of several added up. completion_tokens counts the end-of-sequence token."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 1

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens, self.calls + other.calls)


@dataclasses.dataclass
class Reply:
    """What a chat model answered. stop: why it ended (a `StopReason` value). turn: exact token ids and log-probs, where there are any."""

    message: Message
    usage: Usage = Usage()
    turn: Turn | None = None
    stop: str = "eos"

    @property
    def text(self) -> str:
        """The message's content as text, without thinking."""
        return text_of(self.message)


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers messages. Calls may run concurrently; options are the model's own (temperature, max_new_tokens ...)."""

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Reply:
        """One reply to a conversation. Raises UserError for messages that are none and for unknown options."""
        ...
