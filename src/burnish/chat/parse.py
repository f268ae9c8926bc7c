"""From the text a model wrote to a message: thinking and tool calls taken out of the content.

This is a view for agents. Token ids stay what they are; nothing here is ever encoded for training.
"""

from __future__ import annotations

import json
import re
from typing import Any

from burnish.chat.messages import Message, assistant

THINKING = ("<think>", "</think>")
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


def parse_reply(text: str, thinking: tuple[str, str] | None = THINKING, starts_open: bool = False, tools: bool = False) -> Message:
    """The assistant message that `text` (without its end-of-sequence token) stands for.

    thinking: opening and closing mark; what stands between becomes `reasoning_content`; None leaves the text alone. starts_open: the
    prompt itself opened the thinking. Thinking that never closes leaves the content empty. tools: take `<tool_call>{json}</tool_call>`
    out into `tool_calls`; a call that is not JSON with a name and arguments stays in the content.
    """
    content, thought = text, None
    if thinking is not None:
        thought, content = _split_thinking(text, thinking, starts_open)
    calls: list[dict[str, Any]] = []
    if tools:
        content, calls = _split_calls(content)
    return assistant(content, thought, calls)


def _split_thinking(text: str, marks: tuple[str, str], starts_open: bool) -> tuple[str | None, str]:
    opening, closing = marks
    stripped = text.lstrip()
    if stripped.startswith(opening):
        body = stripped[len(opening) :]
    elif starts_open:
        body = text
    else:
        return None, text
    thought, closed, content = body.partition(closing)
    return thought.strip("\n"), content.lstrip("\n") if closed else ""


def _split_calls(text: str) -> tuple[str, list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def take(match: re.Match[str]) -> str:
        try:
            call = json.loads(match[1])
        except (ValueError, RecursionError):
            return match[0]
        if not isinstance(call, dict) or not isinstance(call.get("name"), str) or not isinstance(call.get("arguments", {}), dict):
            return match[0]
        calls.append({"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}})
        return ""

    rest = _CALL.sub(take, text)
    return (rest.strip("\n"), calls) if calls else (text, calls)
