"""Scripted: a ChatModel that says what it was told to say. For tests, and for agents whose partner must not vary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.chat.messages import Message, assistant, check
from burnish.chat.model import Reply
from burnish.runs.errors import UserError

Answer = str | Message | Reply | BaseException


class Scripted:
    """replies: answers in the order of the calls (a text, a message, a Reply, or an exception to raise), or a function, plain or
    async, of the messages.

    calls: the checked messages of every call so far. `complete` raises UserError where the script has ended.
    """

    def __init__(self, replies: Sequence[Answer] | Callable[[list[Message]], Any]) -> None:
        if isinstance(replies, str):
            raise UserError("scripted chat: replies is one text; give a list of replies or a function")
        self.replies = replies
        self.calls: list[list[Message]] = []

    async def complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Reply:
        """The next answer of the script. Options are accepted and ignored."""
        checked = check(messages)
        number = len(self.calls)
        self.calls.append(checked)
        answer: Any
        if callable(self.replies):
            answer = self.replies(checked)
            if inspect.isawaitable(answer):
                answer = await answer
        elif number < len(self.replies):
            answer = self.replies[number]
        else:
            raise UserError(f"scripted chat: call {number + 1}, but the script has only {len(self.replies)} replies")
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Reply):
            return answer
        return Reply(assistant(answer) if isinstance(answer, str) else check([answer], "scripted reply")[0])


part = Scripted
