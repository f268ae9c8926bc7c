"""Messages, scripted chats, and the parsing of replies."""

import asyncio

import pytest

from burnish.chat.messages import check, check_tools, text_of
from burnish.chat.model import ChatModel, Reply, Usage
from burnish.chat.parse import parse_reply
from burnish.chat.scripted import Scripted
from burnish.runs.errors import UserError

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hi", r"^messages is text; it must be a list"),
        ([], r"^messages is an empty list"),
        (["hi"], r"^messages\[0\] is text; it must be an object"),
        ([USER, {"content": "x"}], r"^messages\[1\].role is missing"),
        ([{"role": "asistant", "content": "x"}], r"did you mean 'assistant'\?"),
        ([{"role": "user"}], r"^messages\[0\].content is missing"),
        ([{"role": "user", "content": {"text": "x"}}], r"^messages\[0\].content is an object"),
        ([{"role": "user", "content": [{"type": "text"}]}], r"^messages\[0\].content\[0\].text is missing"),
        ([USER | {"tool_calls": []}], r"^messages\[0\].tool_calls stands in a user message"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], r"^messages\[0\].tool_calls\[0\].function.name is missing"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}], r"arguments is not JSON"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}], r"arguments is a list; it must be an object"),
    ],
)
def test_bad_messages_are_named(messages, reason):
    with pytest.raises(UserError, match=reason):
        check(messages)


def test_check_leaves_its_input_alone_and_keeps_unknown_keys():
    message = {"role": "user", "content": ["a", {"type": "text", "text": "b"}], "weight": 0, "name": None}
    assert check([message]) == [{"role": "user", "content": "ab", "weight": 0}]
    assert message["name"] is None
    parts = [{"type": "image", "url": "x"}, {"type": "text", "text": "b"}]
    assert check([{"role": "user", "content": parts}])[0]["content"] == parts
    assert text_of({"role": "user", "content": parts}) == "b"
    assert check_tools("[]") is None
    with pytest.raises(UserError, match="tools is an object"):
        check_tools({"name": "f"})


def test_thinking_is_taken_out_closed_open_or_cut_off():
    assert parse_reply("<think>\nhm\n</think>\n\n42") == {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    assert parse_reply("hm\n</think>\n\n42", starts_open=True) == {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    assert parse_reply("<think>\nhm") == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    assert parse_reply("a <think> b") == {"role": "assistant", "content": "a <think> b"}
    assert parse_reply("<think>x</think>y", thinking=None)["content"] == "<think>x</think>y"


def test_tool_calls_are_taken_out_where_they_are_calls():
    good = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert parse_reply(f"so\n{good}", tools=True) == {
        "role": "assistant",
        "content": "so",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }
    for bad in ("<tool_call>{</tool_call>", '<tool_call>{"name": 1}</tool_call>', "<tool_call>[]</tool_call>"):
        assert parse_reply(bad, tools=True) == {"role": "assistant", "content": bad}
    assert parse_reply(good)["content"] == good


def test_scripted_answers_in_order_by_function_and_by_exception():
    async def slow(messages):
        await asyncio.sleep(0)
        return messages[-1]["content"].upper()

    async def use():
        chat = Scripted(
            ["a", {"role": "assistant", "content": "b"}, Reply({"role": "assistant", "content": "c"}, Usage(1, 2)), OSError("down")]
        )
        replies = [await chat.complete([USER]) for _ in range(3)]
        with pytest.raises(OSError, match="down"):
            await chat.complete([USER])
        with pytest.raises(UserError, match="call 5, but the script has only 4 replies"):
            await chat.complete([USER])
        with pytest.raises(UserError, match=r"messages\[0\].role"):
            await chat.complete([{"role": "robot", "content": ""}])
        return chat, replies, (await Scripted(slow).complete([USER])).text

    chat, replies, shouted = asyncio.run(use())
    assert isinstance(chat, ChatModel)
    assert [reply.text for reply in replies] == ["a", "b", "c"]
    assert replies[2].usage.total_tokens == 3
    assert chat.calls[0] == [USER]
    assert shouted == "HI"
