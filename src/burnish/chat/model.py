"""ChatModel: messages and tools in; a message, its usage and, where the model runs in this process, the recorded Turn out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from burnish.chat.messages import Message, text_of
from burnish.records import Turn
from burnish.runs.errors import UserError


class ChatFailed(UserError):
    """This call failed though its settings are right (server busy or down, time-out, an answer that is none); another may succeed."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens of one call, or of several added up. completion_tokens counts the end-of-sequence token.

    cached_tokens: those of the prompt that a server had in its cache. reasoning_tokens: those of the completion that were thinking.
    Both are 0 where nobody said.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 1
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Usage(*(mine + theirs for mine, theirs in pairs))


@dataclasses.dataclass
class Reply:
    """What a chat model answered. stop: why it ended (a `StopReason` value). turn: exact token ids and log-probs, where there are any.

    logprobs: (token text, log-probability) for each token of the content, where an endpoint was asked and gave them. problems: what was
    wrong with an answer that could still be used (arguments of a tool call that are no JSON object are left as text).
    """

    message: Message
    usage: Usage = Usage()
    turn: Turn | None = None
    stop: str = "eos"
    logprobs: list[tuple[str, float]] | None = None
    problems: tuple[str, ...] = ()

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
