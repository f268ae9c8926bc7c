"""History: which token ids stand for a rendered conversation whose earlier replies the policy wrote itself.

The ids of own replies are kept: where the rendered text begins with an earlier call's context and output, the new context is exactly
those ids, followed by the ids of the new text only. Where the template rendered the history otherwise (it drops earlier thinking, the
agent edited a reply), the whole text is encoded afresh and is a context of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.chat.messages import Message


@dataclasses.dataclass(frozen=True)
class Call:
    """One finished call: the text and ids of everything up to the end of its output, and the message made of that output."""

    text: str
    ids: list[int]
    message: Message


class History:
    """encode: text -> ids without adding special tokens (those that a template writes are recognised)."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode
        self.calls: list[Call] = []

    def context(self, text: str, messages: Sequence[Mapping[str, Any]] = ()) -> tuple[list[int], Call | None]:
        """(ids of the rendered conversation `text`, the call it extends or None).

        The longest matching call wins; among equally long ones (same text, perhaps other ids) the one whose message object is
        among `messages`, then the first.
        """
        found = [call for call in self.calls if text.startswith(call.text)]
        if not found:
            return self.encode(text), None
        longest = max(len(call.text) for call in found)
        found = [call for call in found if len(call.text) == longest]
        own = {id(message) for message in messages}
        call = next((one for one in found if id(one.message) in own), found[0])
        rest = text[longest:]
        return call.ids + (self.encode(rest) if rest else []), call

    def add(self, text: str, ids: list[int], message: Message) -> None:
        """Remembers a finished call: `text` and `ids` of context and output together."""
        self.calls.append(Call(text, ids, message))
