"""History: which token ids stand for a rendered conversation whose earlier replies the policy wrote itself.

The ids of own replies are kept, so that what the policy wrote is never encoded again:

- where the rendered text begins with an earlier call's context and output, the new context begins with exactly those ids;
- an own reply that stands elsewhere (the template drops earlier thinking, the agent cut the conversation) brings the ids it was made of.

Only what is left is encoded. Where the template rewrites a reply (tool calls printed anew), or an agent quotes one in a message of its
own, there are no ids for the new text, and it is encoded like any other.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.chat.messages import Message

OPEN, CLOSE = "\ue000", "\ue001"
"""Around the number that stands for an own reply while its place is looked for (private-use characters, which no template trims)."""
FIELDS = ("reasoning_content", "content")
Span = tuple[int, int, list[int]]
"""Start and end in the rendered text, and the ids that stand for it."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One finished call: the text and ids of everything up to the end of its output, the output alone, and the message made of it."""

    text: str
    ids: list[int]
    output: list[int]
    message: Message


class History:
    """encode: text -> ids without adding special tokens (those that a template writes are recognised). decode: ids -> text."""

    def __init__(self, encode: Callable[[str], list[int]], decode: Callable[[list[int]], str]) -> None:
        self.encode, self.decode = encode, decode
        self.calls: list[Call] = []

    def context(
        self, text: str, messages: Sequence[Mapping[str, Any]] = (), render: Callable[[list[Any]], str] | None = None
    ) -> tuple[list[int], Call | None]:
        """(ids of the rendered conversation `text`, the call it extends or None).

        The longest matching call wins; among equally long ones (same text, perhaps other ids) the one whose message object is
        among `messages`, then the first. render: messages -> text, to find own replies that stand elsewhere.
        """
        own = [(place, call) for place, message in enumerate(messages) for call in self.calls if call.message is message]
        found = [call for call in self.calls if text.startswith(call.text)]
        longest = max((len(call.text) for call in found), default=0)
        found = [call for call in found if len(call.text) == longest]
        mine = {id(call) for _, call in own}
        start = next((call for call in found if id(call) in mine), found[0] if found else None)
        spans: list[Span] = []
        if own and render is not None and own[-1][1] is not start:
            spans = [span for span in self._spans(text, messages, own, render) if span[0] >= longest]
        ids, done = list(start.ids) if start else [], longest
        for begin, end, kept in spans:
            ids += self._encoded(text[done:begin]) + kept
            done = end
        return ids + self._encoded(text[done:]), start

    def add(self, text: str, ids: list[int], output: list[int], message: Message) -> None:
        """Remembers a finished call: `text` and `ids` of context and output together, and the output's ids."""
        self.calls.append(Call(text, ids, output, message))

    def _encoded(self, text: str) -> list[int]:
        return self.encode(text) if text else []

    def _spans(
        self, text: str, messages: Sequence[Mapping[str, Any]], own: Sequence[tuple[int, Call]], render: Callable[[list[Any]], str]
    ) -> list[Span]:
        """Where own replies stand in `text`: numbers are rendered in their place, so that nothing depends on a search for their words."""
        marked: list[Any] = list(messages)
        values: list[tuple[Call, str]] = []
        for place, call in own:
            marked[place] = dict(messages[place])
            for field in FIELDS:
                if isinstance(call.message.get(field), str) and call.message[field]:
                    marked[place][field] = f"{OPEN}{len(values)}{CLOSE}"
                    values.append((call, field))
        try:
            pieces = re.split(f"{OPEN}([0-9]+){CLOSE}", render(marked))
        except ValueError:  # a template may refuse what stands for a reply
            return []
        spans, done = [], len(pieces[0])
        if not text.startswith(pieces[0]):
            return []
        for number, after in zip(pieces[1::2], pieces[2::2]):
            call, field = values[int(number)]
            value = call.message[field]
            shown = [one for one in (value, value.rstrip(), value.lstrip(), value.strip()) if text.startswith(one + after, done)]
            if not shown:
                return []
            ids = self._ids_of(call.output, shown[0], last=field == "content")
            if ids is not None:
                spans.append((done, done + len(shown[0]), ids))
            done += len(shown[0]) + len(after)
        return spans if done == len(text) else []

    def _ids_of(self, output: list[int], value: str, last: bool) -> list[int] | None:
        """The part of an output whose text is `value`; None where no token begins or ends there. last: the last such text counts."""
        whole = self.decode(output)
        at = whole.rfind(value) if last else whole.find(value)
        if at < 0:
            return None
        for start in self._near(output, at):
            for end in reversed(self._near(output, at + len(value))):  # bytes of a broken character may add nothing to the text
                if start <= end and self.decode(output[start:end]) == value:
                    return output[start:end]
        return None

    def _near(self, output: list[int], chars: int) -> range:
        """Numbers of tokens whose text is about so many characters long (a character may be made of up to four tokens)."""
        low, high = 0, len(output)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if len(self.decode(output[:middle])) < chars else (low, middle)
        return range(low, min(low + 4, len(output)) + 1)
