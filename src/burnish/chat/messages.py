"""Chat messages: plain dictionaries in the OpenAI shape, checked and brought into the one form that chat templates expect.

A message has `role` and `content` (text, or a list of parts), and may have `tool_calls`, `tool_call_id`, `name`,
`reasoning_content` and whatever else a template reads; unknown keys are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.runs.errors import UserError, did_you_mean

ROLES = ("system", "developer", "user", "assistant", "tool")

Message = dict[str, Any]


def user(content: str) -> Message:
    """A message from the user."""
    return {"role": "user", "content": content}


def system(content: str) -> Message:
    """A system message."""
    return {"role": "system", "content": content}


def assistant(content: str, reasoning_content: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> Message:
    """A message from the model; thinking and tool calls only where there are any."""
    out: Message = {"role": "assistant", "content": content}
    if reasoning_content is not None:
        out["reasoning_content"] = reasoning_content
    if tool_calls:
        out["tool_calls"] = [dict(call) for call in tool_calls]
    return out


def tool(content: str, name: str | None = None, tool_call_id: str | None = None) -> Message:
    """What a tool returned."""
    out: Message = {"role": "tool", "content": content}
    if name is not None:
        out["name"] = name
    if tool_call_id is not None:
        out["tool_call_id"] = tool_call_id
    return out


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message: its content, or its text parts joined. Thinking and tool calls are not part of it."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if part.get("type", "text") == "text")


def check(messages: Any, where: str = "messages") -> list[Message]:
    """The messages, checked and normalised: a new list, the given one is left alone.

    None values (how Parquet fills a key that other rows have) are dropped, text-only parts become one string, tool-call
    arguments given as a JSON string become the dictionary that templates expect, and a message that only calls tools gets content "".

    Raises UserError that names `where`, the index and the field.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise UserError(f"{where} is {_kind(messages)}; it must be a list of messages (role and content)")
    if not messages:
        raise UserError(f"{where} is an empty list; it must hold at least one message")
    return [_check_one(message, f"{where}[{index}]") for index, message in enumerate(messages)]


def _check_one(message: Any, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise UserError(f"{where} is {_kind(message)}; it must be an object with role and content")
    out = {key: value for key, value in message.items() if value is not None}
    role = out.get("role")
    if not isinstance(role, str):
        there = ", ".join(map(str, out)) or "none"
        raise UserError(
            f"{where}.role is {'missing' if role is None else _kind(role)}; it must be one of {', '.join(ROLES)} (keys there: {there})"
        )
    if role not in ROLES:
        raise UserError(f"{where}.role is {role!r}; {did_you_mean(role, ROLES)}")
    calls = out.get("tool_calls")
    if calls is not None:
        if role != "assistant":
            raise UserError(f"{where}.tool_calls stands in a {role} message; only an assistant calls tools")
        out["tool_calls"] = _check_calls(calls, f"{where}.tool_calls")
        if not out["tool_calls"]:
            del out["tool_calls"]
    out["content"] = _check_content(out, where)
    return out


def _check_content(message: Message, where: str) -> str | list[Any]:
    content = message.get("content")
    if content is None:
        if message["role"] == "assistant" and ("tool_calls" in message or "reasoning_content" in message):
            return ""
        raise UserError(f"{where}.content is missing; it must be text or a list of parts")
    if isinstance(content, str):
        return check_text(content, f"{where}.content")
    if isinstance(content, Mapping) or not isinstance(content, Sequence) or isinstance(content, bytes):
        raise UserError(f"{where}.content is {_kind(content)}; it must be text or a list of parts")
    parts = []
    for index, part in enumerate(content):
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, Mapping):
            raise UserError(f"{where}.content[{index}] is {_kind(part)}; a part is an object with type and text")
        part = {key: value for key, value in part.items() if value is not None}
        if part.get("type", "text") == "text":
            if not isinstance(part.get("text"), str):
                raise UserError(f"{where}.content[{index}].text is {_kind(part.get('text'))}; it must be text")
            check_text(part["text"], f"{where}.content[{index}].text")
        parts.append(part)
    if all(part.get("type", "text") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _check_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(calls, (str, Mapping)) or not isinstance(calls, Sequence):
        raise UserError(f"{where} is {_kind(calls)}; it must be a list of calls")
    return [_check_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _check_call(call: Any, where: str) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise UserError(f"{where} is {_kind(call)}; a call is an object with function.name and function.arguments")
    out = {key: value for key, value in call.items() if value is not None}
    nested = isinstance(out.get("function"), Mapping)
    function = {key: value for key, value in (out["function"] if nested else out).items() if value is not None}
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise UserError(f"{where}.function.name is missing; it must name the tool")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{where}.function.arguments is not JSON: {error}") from None
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where}.function.arguments is {_kind(arguments)}; it must be an object")
    # Arrow gives every call the argument names of all other calls, filled with None: those were never in the data.
    function["arguments"] = without_none(dict(arguments))
    return {**out, "type": "function", "function": function} if nested else {"type": "function", "function": function}


def check_tools(tools: Any, where: str = "tools") -> list[dict[str, Any]] | None:
    """A tools column's value: a list of JSON schemas, a JSON string of one (Parquet's way out), or nothing.

    Raises UserError that names `where`.
    """
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{where} is text that is not JSON: {error}") from None
    if tools is None:
        return None
    if isinstance(tools, Mapping) or not isinstance(tools, Sequence) or isinstance(tools, str):
        raise UserError(f"{where} is {_kind(tools)}; it must be a list of tool schemas")
    for index, one in enumerate(tools):
        if not isinstance(one, Mapping):
            raise UserError(f"{where}[{index}] is {_kind(one)}; a tool schema is an object")
    return [without_none(one) for one in tools] or None


def check_text(text: str, where: str) -> str:
    """The text itself. Raises UserError where it holds half a surrogate pair, which no tokenizer can take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds half a surrogate pair ({text[error.start]!r}) at character {error.start}; it is no valid text"
        ) from None
    return text


def without_none(value: Any) -> Any:
    """The value without dictionary keys whose value is None, at any depth: Arrow fills with None what other rows have."""
    if isinstance(value, Mapping):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [without_none(one) for one in value]
    return value


def _kind(value: Any) -> str:
    names = {
        "str": "text",
        "dict": "an object",
        "list": "a list",
        "int": "a number",
        "float": "a number",
        "bool": "a boolean",
        "NoneType": "missing",
    }
    return names.get(type(value).__name__, f"a {type(value).__name__}")


kind_of = _kind
