"""HttpChat against a real local server: what goes out, what comes in, limits, retries, errors in one line, and a key that shows nowhere."""

import asyncio
import copy
import io
import itertools
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
import time
import traceback

import pytest
from chat_server import Server, completion

from burnish.chat.http import HttpChat
from burnish.chat.make import make_chat
from burnish.chat.messages import assistant, system, tool, user
from burnish.chat.model import ChatFailed, ChatModel, Usage
from burnish.runs.errors import UserError

pytest.importorskip("openai", reason="openai is not installed (extra: api)")

KEY = "sk-very-secret-0123456789"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}


def ask(chat, messages="hi", **options):
    return asyncio.run(chat.complete([user(messages)] if isinstance(messages, str) else messages, **options))


def refused(kind, chat, **options) -> str:
    with pytest.raises(kind) as caught:
        ask(chat, **options)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


# --- what goes out and comes in -----------------------------------------------------------------------------------------------------------
def test_request_reply_usage_and_cost():
    body = completion("Four.", 1000, 200)
    body["usage"] |= {"prompt_tokens_details": {"cached_tokens": 400}, "completion_tokens_details": {"reasoning_tokens": 150}}
    body["choices"][0] |= {"finish_reason": "length", "logprobs": {"content": [{"token": "Four", "logprob": -0.5}]}}
    with Server(lambda *_: body) as server:
        chat = HttpChat(
            server.url,
            "m",
            options={"temperature": 0.0, "seed": 7},
            body={"top_a": 0.3},
            price={"prompt": 2.0, "completion": 10.0, "cached": 0.5},
        )
        assert isinstance(chat, ChatModel)
        reply = ask(chat, [system("s"), user("2+2?")], max_new_tokens=9, stop=("\n",), logprobs=True, temperature=0.5)
        ask(chat)
    path, headers, sent = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer no-key"
    assert sent == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "2+2?"}],
        "temperature": 0.5,
        "seed": 7,
        "max_tokens": 9,
        "stop": ["\n"],
        "logprobs": True,
        "top_a": 0.3,
    }
    assert (reply.text, reply.stop, reply.logprobs, reply.problems) == ("Four.", "length", [("Four", -0.5)], ())
    assert reply.usage == Usage(1000, 200, 1, 400, 150)
    assert chat.cost_of(reply.usage) == pytest.approx((600 * 2 + 400 * 0.5 + 200 * 10) / 1e6)
    assert chat.usage == Usage(2000, 400, 2, 800, 300)
    assert chat.cost == pytest.approx(2 * 0.0034)


def test_nothing_of_the_environment_goes_to_the_endpoint(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Mine: {KEY}")
    with Server(lambda *_: "ok") as server:
        ask(HttpChat(server.url, "m"))
    assert KEY not in str(server.requests)


def test_tools_and_tool_calls_both_ways():
    def answer(body, number):
        if number:
            return "done"
        calls = [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "c2", "type": "function", "function": {"name": "add", "arguments": '{"a": __import__("os")'}},
        ]
        return completion(None, tool_calls=calls)

    with Server(answer) as server:
        chat = HttpChat(server.url, "m")
        asked = [user("add")]
        reply = ask(chat, asked, tools=[TOOL])
        first, second = reply.message["tool_calls"]
        assert first == {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
        assert second["function"]["arguments"] == '{"a": __import__("os")'  # kept as text, and reported
        assert reply.problems == ("the arguments of tool call 1 ('add') are no JSON object",)
        ask(chat, [*asked, reply.message, tool("2", tool_call_id="c1"), tool("what?")], tools=[TOOL])
    sent = server.requests[1][2]
    assert sent["tools"] == [TOOL]
    assert [json.loads(sent["messages"][1]["tool_calls"][0]["function"]["arguments"])] == [{"a": 1}]
    assert sent["messages"][1]["tool_calls"][1]["function"]["arguments"] == '{"a": __import__("os")'
    assert [message.get("tool_call_id") for message in sent["messages"]] == [None, None, "c1", "c2"]


def test_thinking_is_taken_out_and_not_sent_back():
    with Server(lambda body, n: ["<think>hm</think>4", completion("5", reasoning_content="ho"), "hm</think>6"][n]) as server:
        chat = HttpChat(server.url, "m")
        replies = [ask(chat, [user("q"), assistant("a", "my thoughts"), user("r")]) for _ in range(3)]
    assert [(reply.text, reply.message["reasoning_content"]) for reply in replies] == [("4", "hm"), ("5", "ho"), ("6", "hm")]
    assert "my thoughts" not in str(server.requests)


# --- limits -------------------------------------------------------------------------------------------------------------------------------
def test_concurrency_holds_over_loops_and_threads_and_totals_add_up():
    with Server(lambda *_: "ok", delay=0.03) as server:
        chat = HttpChat(server.url, "m", concurrency=3)

        async def many():
            await asyncio.gather(*[chat.complete([user(str(i))]) for i in range(6)])

        threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(many())
    assert server.peak == 3
    assert chat.usage == Usage(240, 120, 24)


def test_retry_after_is_kept_and_retries_run_out():
    def busy_once(body, number):
        return "ok" if number else (429, {"Retry-After": "0.4"}, {"error": {"message": "slow down"}})

    with Server(busy_once) as server:
        start = time.monotonic()
        assert ask(HttpChat(server.url, "m")).text == "ok"
        assert 0.4 <= time.monotonic() - start < 5
    with Server(lambda *_: (429, {"retry-after-ms": "5"}, {"error": {"message": "slow\ndown"}})) as server:
        chat = HttpChat(server.url, "m", retries=2)
        text = refused(ChatFailed, chat)
        assert "status 429: too many requests after 3 tries (slow down)" in text
    assert len(server.requests) == 3
    assert chat.failures == 1
    assert chat.usage.calls == 0


def drip():
    for _ in range(200):
        time.sleep(0.02)
        yield b" "


def test_time_out_is_for_the_whole_call_even_where_bytes_keep_coming():
    with Server(lambda *_: (200, {}, drip())) as server:
        start = time.monotonic()
        assert "no answer within 0.3 s" in refused(ChatFailed, HttpChat(server.url, "m", timeout=0.3))
        assert time.monotonic() - start < 2


def test_a_silent_try_is_followed_by_another():
    def silent_once(body, number):
        if not number:
            time.sleep(1.5)
        return "ok"

    with Server(silent_once) as server:
        assert ask(HttpChat(server.url, "m", try_timeout=0.3, timeout=30)).text == "ok"
    with Server(lambda *_: "late", delay=0.5) as server:
        assert "did not answer in time after 2 tries" in refused(ChatFailed, HttpChat(server.url, "m", try_timeout=0.1, retries=1))


@pytest.mark.parametrize("status", [200, 500])
def test_answers_without_end_are_cut(status):
    with Server(lambda *_: (status, {}, itertools.repeat(b"x" * 65536))) as server:
        assert "longer than 100000 bytes" in refused(ChatFailed, HttpChat(server.url, "m", max_bytes=100_000, retries=0))


def test_packed_answers_are_refused():
    with Server(lambda *_: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")) as server:
        assert "packed" in refused(ChatFailed, HttpChat(server.url, "m", retries=0))


def test_a_cancelled_call_gives_its_place_back():
    def answer(body, number):
        return (200, {}, drip()) if body["messages"][0]["content"] == "slow" else "ok"

    with Server(answer) as server:
        chat = HttpChat(server.url, "m", concurrency=1)
        ask(chat, "quick")

        async def cancelled():
            waiting = asyncio.create_task(chat.complete([user("slow")]))
            while len(server.requests) < 2:
                await asyncio.sleep(0.01)
            waiting.cancel()
            start = time.monotonic()
            await chat.complete([user("quick")])
            return time.monotonic() - start

        assert asyncio.run(cancelled()) < 3  # the slow answer alone takes 4 seconds


# --- errors -------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((401, {}, {"error": {"message": "bad key"}}), UserError, ["401", "key was refused", "(bad key)"]),
        ((404, {}, {"error": {"message": "no model m"}}), UserError, ["404", "check model and base_url", "no model m"]),
        ((307, {"Location": "http://127.0.0.1:9/"}, b""), UserError, ["redirects"]),
        ((400, {}, {"error": {"message": "too long"}}), ChatFailed, ["400", "too long"]),
        ((503, {}, b"<html>down</html>"), ChatFailed, ["503", "the server failed"]),
        (b"{not json", ChatFailed, ["not JSON", "{not json"]),
        (b"", ChatFailed, ["empty"]),
        (b"[1]", ChatFailed, ["a list, not an object"]),
        ({"choices": []}, ChatFailed, ["no choices"]),
        ({"choices": [{"message": "hi"}]}, ChatFailed, ["no message"]),
        (completion(7), ChatFailed, ["content is a number, not text"]),
        (completion(None), ChatFailed, ["neither content nor tool calls"]),
        (completion("x", tool_calls=[{"function": {}}]), ChatFailed, ["tool call 0 has no function name"]),
        ({"error": {"message": "overloaded"}}, ChatFailed, ["overloaded"]),
        (b'{"choices": ' + b"[" * 100_000, ChatFailed, ["not JSON"]),
    ],
)
def test_bad_answers_are_one_clear_line(answer, kind, words):
    with Server(lambda *_: answer) as server:
        text = refused(kind, HttpChat(server.url, "m", retries=0))
    for word in ["chat model 'm' at http://127.0.0.1", *words]:
        assert word in text


def test_odd_but_usable_answers():
    body = completion("half \ud800 pair")
    body["usage"] = {"prompt_tokens": "many", "completion_tokens": -3}
    with Server(lambda body_, n: [body, {"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}][n]) as server:
        chat = HttpChat(server.url, "m")
        first, second = ask(chat), ask(chat)
    assert (first.text, first.usage.total_tokens) == ("half ? pair", 0)
    assert (second.text, second.problems) == ("x", ("the answer says nothing of its tokens",))


def test_no_server_and_bad_settings(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "no connection" in refused(ChatFailed, HttpChat(f"http://127.0.0.1:{port}/v1", "m", retries=0))
    url = "http://127.0.0.1:1/v1"
    monkeypatch.setenv("BROKEN_KEY", "sk-a b\nc")
    for settings, words in [
        ({"base_url": "localhost:8000"}, "not an address"),
        ({"base_url": f"http://u:{KEY}@h/v1"}, "holds a user"),
        ({"base_url": f"http://h/v1?key={KEY}"}, "a query"),
        ({"timeout": 0}, "timeout is 0"),
        ({"retries": -1}, "retries is -1"),
        ({"concurrency": True}, "concurrency is True"),
        ({"price": {"prompt": 1}}, "price.completion is missing"),
        ({"price": {"prmpt": 1}}, "did you mean 'prompt'"),
        ({"options": {"temprature": 1}}, "did you mean 'temperature'"),
        ({"api_key_env": "NOT_SET_HERE"}, "NOT_SET_HERE is not set"),
        ({"api_key_env": "AKIA7Q2X9SECRETVALUE"}, "AKIA... is not set"),
        ({"api_key_env": KEY}, "not the name of an environment variable"),
        ({"api_key_env": "BROKEN_KEY"}, "no key has"),
        ({"api_key_file": str(tmp_path / "none")}, "cannot read api_key_file"),
    ]:
        with pytest.raises(UserError, match=words) as caught:
            make_chat({"name": "http", "base_url": url, "model": "m", **settings})
        assert KEY not in str(caught.value)
    with pytest.raises(UserError, match="unknown argument 'api_key'; did you mean 'api_key_") as caught:
        make_chat({"name": "http", "base_url": url, "model": "m", "api_key": KEY})
    assert KEY not in str(caught.value)
    with pytest.raises(UserError, match="unknown chat 'htpp'; did you mean 'http'"):
        make_chat({"name": "htpp"})
    with pytest.raises(UserError, match="is no chat model"):
        make_chat(object())
    assert asyncio.run(make_chat({"name": "scripted", "replies": ["x"]}).complete([user("q")])).text == "x"


# --- secrets ------------------------------------------------------------------------------------------------------------------------------
def test_the_key_shows_nowhere(monkeypatch, tmp_path):
    """DEBUG logs, messages, tracebacks with their chain and variables, repr, pickle, copies, and a server that repeats the key."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    (tmp_path / "key").write_text(KEY + "\n")
    seen = io.StringIO()
    handler = logging.StreamHandler(seen)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        answers = [
            f"you sent {KEY}",
            (401, {"x-request-id": KEY, "X-Echo": KEY}, {"error": {"message": f"Incorrect key {KEY}"}}),
            (400, {}, KEY.encode()),
            KEY.encode(),
            (500, {}, {"error": {"message": KEY}}),
        ]
        with Server(lambda body, number: answers[number]) as server:
            chat = make_chat({"name": "http", "base_url": server.url, "model": "m", "api_key_env": "JUDGE_KEY", "retries": 0})
            assert ask(chat).text == "you sent [key]"
            for _ in answers[1:]:
                try:
                    ask(chat)
                except UserError as error:
                    chain, one = [], error
                    while one is not None:
                        chain.append(repr(vars(one)) + repr(one) + repr([getattr(one, "request", None), getattr(one, "body", None)]))
                        one = one.__cause__ or one.__context__
                    seen.write("".join(traceback.format_exception(error)) + "".join(chain))
                    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename != __file__]
                    assert any("complete" in frame.f_code.co_name for frame in frames)
                    seen.write(repr([frame.f_locals for frame in frames]))
            other = HttpChat(server.url, "m", api_key_file=str(tmp_path / "key"))
        assert len(server.requests) == len(answers)
        assert all(headers["authorization"] == f"Bearer {KEY}" for _, headers, _ in server.requests)
        for one in (chat, other, copy.deepcopy(chat), pickle.loads(pickle.dumps(chat))):
            seen.write(repr(one) + str(one.__getstate__()) + pickle.dumps(one).decode("latin-1"))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    text = seen.getvalue()
    assert "status 401" in text
    assert "openai" in text or "Sending HTTP Request" in text
    assert KEY not in text


def test_openai_is_imported_only_where_it_is_used():
    code = "import sys, burnish.chat.http, burnish.rl.rewards.judge; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
