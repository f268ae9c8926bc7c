"""Between burnish's messages and the JSON of OpenAI's chat completions. Answers are untrusted: every field is checked, nothing is run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.chat.messages import Message, assistant, check, kind_of, text_of
from burnish.chat.model import Reply, Usage
from burnish.chat.parse import THINKING, parse_reply
from burnish.records import StopReason

STOPS = {"stop": StopReason.EOS, "tool_calls": StopReason.EOS, "function_call": StopReason.EOS, "length": StopReason.LENGTH}
MOST_CALLS = 128
"""Tool calls of one reply; more is no answer."""


class BadAnswer(ValueError):
    """What the server sent is no chat completion. The message says what is wrong, not where."""


# --- out ----------------------------------------------------------------------------------------------------------------------------------
def outgoing(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The messages, checked, as the endpoint wants them: arguments as JSON text, every call with an id, thinking left out.

    A call without an id gets one, and a tool's message without `tool_call_id` answers the first call that has no answer yet. Arguments
    that an earlier reply left as text go back as they came. Raises UserError for messages that are none.
    """
    kept, readable = _set_text_aside(messages)
    out, waiting = [], []
    for place, message in enumerate(check(readable)):
        message = {key: value for key, value in message.items() if key != "reasoning_content"}
        calls = []
        for number, call in enumerate(message.get("tool_calls", ())):
            arguments = kept.get((place, number))
            function = {"name": call["function"]["name"], "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False)}
            if arguments is not None:
                function["arguments"] = arguments
            calls.append({"id": str(call.get("id") or f"call_{place}_{number}"), "type": "function", "function": function})
        if calls:
            message["tool_calls"] = calls
            waiting = [call["id"] for call in calls]
        if message["role"] == "tool":
            answered = message.get("tool_call_id") or (waiting[0] if waiting else f"call_{place}")
            message["tool_call_id"] = answered
            waiting = [one for one in waiting if one != answered]
        out.append(message)
    return out


def _set_text_aside(messages: Any) -> tuple[dict[tuple[int, int], str], Any]:
    """Arguments that are no JSON object, by message and call, and the messages with empty ones in their place."""
    kept: dict[tuple[int, int], str] = {}
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        return kept, messages
    out = list(messages)
    for place, message in enumerate(out):
        calls = message.get("tool_calls") if isinstance(message, Mapping) else None
        if not isinstance(calls, (list, tuple)):
            continue
        mended = list(calls)
        for number, call in enumerate(mended):
            function = call.get("function") if isinstance(call, Mapping) else None
            text = function.get("arguments") if isinstance(function, Mapping) else None
            if isinstance(function, Mapping) and isinstance(text, str) and _object(text) is None:
                kept[place, number] = text
                mended[number] = {**call, "function": {**function, "arguments": {}}}
        out[place] = {**message, "tool_calls": mended}
    return kept, out


# --- in -----------------------------------------------------------------------------------------------------------------------------------
def incoming(text: str, thinking: tuple[str, str] | None = THINKING) -> Reply:
    """The reply that an answer's body stands for. thinking: marks that are taken out of the content, where the server left them in.

    Raises BadAnswer.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        shown = " ".join(text[:80].split())
        raise BadAnswer(f"the answer is not JSON (it begins {shown!r})" if shown else "the answer is empty") from None
    if not isinstance(data, dict):
        raise BadAnswer(f"the answer is {kind_of(data)}, not an object")
    if data.get("error") and not data.get("choices"):
        raise BadAnswer(f"the answer is an error: {error_text(data)}")
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadAnswer("the answer has no choices")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise BadAnswer("the answer's first choice has no message")
    made, problems = _message(message, thinking)
    finish = choice.get("finish_reason")
    stop = STOPS.get(finish, StopReason.ERROR) if isinstance(finish, str) else StopReason.EOS
    usage = _usage(data.get("usage"))
    if usage is None:
        problems.append("the answer says nothing of its tokens")
    if finish == "content_filter":
        problems.append("the server's content filter cut the answer")
    return Reply(made, usage or Usage(), None, str(stop), _logprobs(choice.get("logprobs")), tuple(problems))


def _message(message: dict[str, Any], thinking: tuple[str, str] | None) -> tuple[Message, list[str]]:
    problems: list[str] = []
    content = message.get("content")
    if content is None and isinstance(message.get("refusal"), str):
        content = message["refusal"]
        problems.append("the model refused")
    if isinstance(content, list) and all(isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in content):
        content = text_of({"content": content})
    if content is not None and not isinstance(content, str):
        raise BadAnswer(f"message.content is {kind_of(content)}, not text")
    calls = _calls(message.get("tool_calls"), problems)
    thought = message.get("reasoning_content") or message.get("reasoning")
    if content is None and not calls and not isinstance(thought, str):
        raise BadAnswer("the message has neither content nor tool calls")
    content = _sound(content or "")
    if isinstance(thought, str):
        return assistant(content, _sound(thought), calls), problems
    made = content if thinking is None else parse_reply(content, thinking, _starts_open(content, thinking))
    return (assistant(content, None, calls) if isinstance(made, str) else {**made, **({"tool_calls": calls} if calls else {})}), problems


def _starts_open(text: str, marks: tuple[str, str]) -> bool:
    """Whether the prompt opened the thinking, so that only its end stands in the text."""
    return marks[1] in text and marks[0] not in text


def _calls(calls: Any, problems: list[str]) -> list[dict[str, Any]]:
    if calls is None:
        return []
    if not isinstance(calls, list) or len(calls) > MOST_CALLS:
        raise BadAnswer(
            f"message.tool_calls is {kind_of(calls)}" if not isinstance(calls, list) else f"{len(calls)} tool calls in one reply"
        )
    out = []
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise BadAnswer(f"tool call {number} has no function name")
        arguments = function.get("arguments", "")
        read = arguments if isinstance(arguments, dict) else _object(arguments) if isinstance(arguments, str) else None
        if read is None:
            problems.append(f"the arguments of tool call {number} ({name!r}) are no JSON object")
        made = {"type": "function", "function": {"name": name, "arguments": _sound(str(arguments)) if read is None else read}}
        out.append({"id": call["id"], **made} if isinstance(call.get("id"), str) and call["id"] else made)
    return out


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; an empty text stands for no arguments; None for anything else."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict):
        return None

    def count(*path: str) -> int:
        value: Any = given
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0

    return Usage(
        prompt_tokens=count("prompt_tokens"),
        completion_tokens=count("completion_tokens"),
        cached_tokens=count("prompt_tokens_details", "cached_tokens") or count("prompt_cache_hit_tokens"),
        reasoning_tokens=count("completion_tokens_details", "reasoning_tokens"),
    )


def _logprobs(given: Any) -> list[tuple[str, float]] | None:
    """None where there are none, or where one of them is no number."""
    content = given.get("content") if isinstance(given, dict) else None
    if not isinstance(content, list):
        return None
    out = []
    for one in content:
        token, value = (one.get("token"), one.get("logprob")) if isinstance(one, dict) else (None, None)
        if not isinstance(token, str) or isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        out.append((token, float(value)))
    return out


def error_text(data: Any) -> str:
    """The message of an error's body, in one line of bounded length."""
    error = data.get("error", data) if isinstance(data, dict) else data
    text = (error.get("message") or error.get("detail") if isinstance(error, dict) else error) or ""
    line = " ".join(_sound(str(text)[:2000]).split())
    return line if len(line) <= 300 else line[:300] + " ..."


def _sound(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON can hold and no file can, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
