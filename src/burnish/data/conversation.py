"""Which tokens of a rendered conversation the model itself would have written: found on token ids, never by searching text.

Each assistant message is rendered as the model would meet it: the history before it with the generation prompt, then the same history
with the message. What comes after the shared beginning is the model's own, up to and including the token that ends its turn. Where the
template renders a message's history differently later on (it drops earlier thinking), the conversation is split: the message is
trained in the context in which it was written, and the rest goes on in an example of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from burnish.runs.errors import UserError

Render = Callable[[Sequence[Mapping[str, Any]], bool], list[int]]


@dataclasses.dataclass
class Piece:
    """ids of one rendering; spans: [start, end) of what the model wrote; closed: the last span ends with an end-of-turn token."""

    ids: list[int]
    spans: list[tuple[int, int]]
    closed: bool = True


def pieces(messages: Sequence[Mapping[str, Any]], targets: Collection[int], render: Render, end_ids: Collection[int]) -> list[Piece]:
    """The renderings that hold all target messages (indices of assistant messages), each target once, in order.

    render(messages, add_generation_prompt) -> ids. A piece's ids end with its last span. Raises UserError where the template renders the
    history before a target differently once the target follows, so that nobody could say which tokens are whose.
    """
    known: dict[tuple[int, bool], list[int]] = {}

    def beginning(count: int, generation: bool) -> list[int]:
        """The first `count` messages rendered; each is asked for several times."""
        if (count, generation) not in known:
            known[count, generation] = render(messages[:count], generation)
        return known[count, generation]

    out: list[Piece] = []
    for index in sorted(targets):
        full = beginning(index + 1, False)
        if index == 0:
            history, prompt = [], _header(messages[0], full, render)
        else:
            history, prompt = beginning(index, False), beginning(index, True)
        span, closed = _span(index, full, history, prompt, end_ids)
        last = out[-1] if out else None
        if last is not None and span[0] >= len(last.ids) and full[: len(last.ids)] == last.ids:
            out[-1] = Piece(full[: span[1]], [*last.spans, span], closed)
        else:
            out.append(Piece(full[: span[1]], [span], closed))
    return out


def _span(index: int, full: list[int], history: list[int], prompt: list[int], end_ids: Collection[int]) -> tuple[tuple[int, int], bool]:
    """([start, end) of the message `index` in `full`, whether an end-of-turn token closes it)."""
    start = _shared(prompt, full)
    if start < _shared(history, prompt):
        raise UserError(
            f"the chat template renders the messages before messages[{index}] differently once it follows; its tokens cannot be told apart"
        )
    ends = [place for place in range(start, len(full)) if full[place] in end_ids]
    end = ends[-1] + 1 if ends else len(full)
    if end == start:
        raise UserError(f"the chat template writes nothing for messages[{index}]")
    return (start, end), bool(ends)


def _header(message: Mapping[str, Any], full: list[int], render: Render) -> list[int]:
    """What stands before the words of a reply that opens the conversation: what it shares with another reply in its place."""
    other = "\x00" if message.get("content") != "\x00" else "\x01"
    return full[: _shared(render([{**message, "content": other}], False), full)]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
