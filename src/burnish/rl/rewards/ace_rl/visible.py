"""What of a completion is judged and measured: the text after the end of thinking."""

from __future__ import annotations

from collections.abc import Callable

from burnish.tasks.completions import Completions


def after_thinking(text: str, marks: tuple[str, str] | None, opened: bool = False) -> str:
    """The text after the first end mark; all of it where there was no thinking, none where thinking never ended.

    opened: the prompt itself opened the thinking.
    """
    if marks is None:
        return text
    opening, closing = marks
    if not opened and not text.lstrip().startswith(opening) and closing not in text:
        return text
    _, ended, rest = text.partition(closing)
    return rest.lstrip("\n") if ended else ""


def visible(group: Completions, marks: tuple[str, str] | None, decode: Callable[[list[int]], str] | None = None) -> list[str]:
    """For each rollout its text after the thinking. decode: tells whether the prompt ended with the opening mark; None: it did not."""
    out = []
    for rollout, text in zip(group.rollouts, group.texts):
        opened = False
        if marks is not None and decode is not None and rollout.turns:
            opened = decode(list(rollout.turns[0].context_ids[-16:])).rstrip().endswith(marks[0])
        out.append(after_thinking(text, marks, opened))
    return out
