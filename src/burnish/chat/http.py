"""HttpChat: a ChatModel behind any OpenAI-compatible chat-completions endpoint, with retries, limits, usage and cost."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from burnish.chat import background
from burnish.chat.api_key import hide, read_key
from burnish.chat.cost import Price
from burnish.chat.messages import check_tools
from burnish.chat.model import ChatFailed, Reply, Usage
from burnish.chat.parse import THINKING
from burnish.chat.transport import Failure, explain, make_client
from burnish.chat.wire import BadAnswer, incoming, outgoing
from burnish.runs.errors import UserError, did_you_mean

BODY = ("temperature", "top_p", "top_k", "min_p", "stop", "seed", "logprobs", "top_logprobs", "tool_choice", "parallel_tool_calls",
        "response_format", "presence_penalty", "frequency_penalty", "reasoning_effort")  # fmt: skip
OPTIONS = ("max_new_tokens", *BODY)


class HttpChat:
    """One model of one endpoint; `complete` may be called from any thread and any event loop, as often as you like.

    base_url: up to and including /v1. model: its name there. api_key_env, api_key_file: the environment variable or the file that holds
    the key; it is read when the first call is made, and appears in no message, log, repr or copy.
    timeout: seconds for a whole call, waiting between tries included, waiting for a free place not. try_timeout: seconds of silence after
    which a try is given up and another made; None: the whole time-out. retries: further tries after 408, 409, 429, 5xx, silence or a lost
    connection, with growing pauses or as long as the server's Retry-After says.
    concurrency: calls at once. price: see `Price`; None: the cost is unknown. options: defaults of every call (see `OPTIONS`).
    body: further fields of the request, for what only this server knows. max_bytes: longest answer that is read.
    length_field: what this server calls the longest completion ("max_tokens" or "max_completion_tokens").
    thinking: marks around thinking that the server left in the content; None leaves it there.

    usage, cost, failures: totals of all calls so far (a call that failed counts none). Raises UserError for settings that cannot work.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        api_key_file: str | None = None,
        timeout: float = 120.0,
        try_timeout: float | None = None,
        retries: int = 4,
        concurrency: int = 8,
        price: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        max_bytes: int = 8_000_000,
        length_field: str = "max_tokens",
        thinking: tuple[str, str] | None = THINKING,
    ) -> None:
        self.where = f"chat model {model!r} at {_checked_url(base_url)}"
        self.try_timeout = timeout if try_timeout is None else try_timeout
        times = (("timeout", timeout), ("try_timeout", self.try_timeout))
        for name, value in (*times, ("concurrency", concurrency), ("retries", retries), ("max_bytes", max_bytes)):
            _check_number(self.where, name, value)
        if not isinstance(model, str) or not model:
            raise UserError("chat model: model is empty; name the model as the endpoint calls it")
        if length_field not in ("max_tokens", "max_completion_tokens"):
            raise UserError(f"{self.where}: length_field is {length_field!r}; it must be 'max_tokens' or 'max_completion_tokens'")
        self.base_url, self.model, self.timeout, self.retries, self.concurrency = (
            base_url,
            model,
            float(timeout),
            int(retries),
            int(concurrency),
        )
        self.price = None if price is None else Price(price, f"{self.where}: price")
        self.options, self.body, self.max_bytes, self.length_field = dict(options or {}), dict(body or {}), int(max_bytes), length_field
        self.thinking = None if thinking is None else (thinking[0], thinking[1])
        self._key_from = (api_key_env, api_key_file)
        self._named(self.options)
        read_key(self.where, *self._key_from)  # a missing key shows now, before anything loads
        if importlib.util.find_spec("openai") is None:
            raise UserError(f"{self.where}: needs the openai package; install it with pip install 'burnish[api]'")
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._live: tuple[int, Any, asyncio.Semaphore, str] | None = None
        self.usage, self.failures = Usage(calls=0), 0

    # --- calls ----------------------------------------------------------------------------------------------------------------------------
    async def complete(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None, **options: Any
    ) -> Reply:
        """One reply. options: see `OPTIONS`, for this call only (None takes a default away).

        Raises ChatFailed where the server is down, busy or talks nonsense, and UserError for bad messages, unknown options, a refused key
        and an unknown model.
        """
        found = await background.there(self._call(self._request(messages, tools, options)))
        with self._lock:
            if isinstance(found, Failure):
                self.failures += 1
            else:
                self.usage = self.usage + found.usage
        if isinstance(found, Failure):
            raise (UserError if found.final else ChatFailed)(f"{self.where}: {found.text}")
        return found

    def _request(self, messages: Any, tools: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        chosen = {**self.options, **self._named(options)}
        out: dict[str, Any] = {"model": self.model, "messages": outgoing(messages)}
        if checked := check_tools(tools):
            out["tools"] = [tool if "function" in tool else {"type": "function", "function": tool} for tool in checked]
        limit = chosen.pop("max_new_tokens", None)
        if limit is not None:
            out[self.length_field] = limit
        if isinstance(chosen.get("stop"), tuple):
            chosen["stop"] = list(chosen["stop"])
        return {**out, **{name: value for name, value in chosen.items() if value is not None}, **self.body}

    def _named(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in options:
            if name not in OPTIONS:
                raise UserError(f"chat option {name!r} is unknown; {did_you_mean(name, OPTIONS)} (fields of this server alone: body)")
        return options

    async def _call(self, request: dict[str, Any]) -> Reply | Failure:
        """On the background loop. A failure is returned, so that what is raised of it leads to no frame or request that holds the key."""
        client, places, key = self._ready()
        async with places:
            try:
                async with asyncio.timeout(self.timeout):
                    raw = await client.chat.completions.with_raw_response.create(
                        model=request["model"], messages=request["messages"], extra_body=request
                    )
                return incoming(hide(raw.http_response.content.decode("utf-8", "replace"), key), self.thinking)
            except BadAnswer as error:
                failure = Failure(str(error), final=False)
            except TimeoutError:
                failure = Failure(f"no answer within {self.timeout:g} s; raise timeout or lower concurrency", final=False)
            except Exception as error:
                failure = explain(error, self.retries)
        return Failure(hide(failure.text, key), failure.final)

    def _ready(self) -> tuple[Any, asyncio.Semaphore, str]:
        """The client, its free places and the key. Only the background loop comes here; a forked process makes its own."""
        if self._live is None or self._live[0] != os.getpid():
            key = read_key(self.where, *self._key_from)
            client = make_client(self.base_url, key, float(self.try_timeout), self.retries, self.max_bytes)
            self._live = (os.getpid(), client, asyncio.Semaphore(self.concurrency), key)
        return self._live[1:]

    # --- totals ---------------------------------------------------------------------------------------------------------------------------
    def cost_of(self, usage: Usage) -> float | None:
        """What so many tokens cost; None where no price is given."""
        return None if self.price is None else self.price.of(usage)

    @property
    def cost(self) -> float | None:
        """What all calls so far cost."""
        return self.cost_of(self.usage)

    def __repr__(self) -> str:
        return f"HttpChat(base_url={self.base_url!r}, model={self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Settings alone: a copy starts with a client and totals of its own, and reads the key where it wakes up."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_live", "usage", "failures")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()


def _checked_url(url: Any) -> str:
    """The address as messages show it. Raises UserError, which shows nothing that could be a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        raise UserError("chat model: base_url is not an address; give one such as http://127.0.0.1:8000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\x00-\x20\x7f]", url):
        raise UserError("chat model: base_url is not an address; give one such as http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UserError(
            f"chat model: base_url (at {parts.hostname}) holds a user, a password or a query, which would be written to the run folder; "
            "leave them out and name the key with api_key_env"
        )
    return f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}{parts.path}"


def _check_number(where: str, name: str, value: Any) -> None:
    whole = not name.endswith("timeout")
    good = not isinstance(value, bool) and isinstance(value, int if whole else (int, float)) and value < float("inf")
    if not good or value < (name != "retries") * (1 if whole else 1e-3):
        wanted = "a whole number" if whole else "a number of seconds"
        raise UserError(f"{where}: {name} is {value!r}; it must be {wanted} {'of at least 0' if name == 'retries' else 'above 0'}")


part = HttpChat
