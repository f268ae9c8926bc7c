"""What the `openai` package does for HttpChat: one client with limits, and its exceptions in one clear line."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from burnish.chat.api_key import hide
from burnish.chat.wire import error_text

WRONG = {
    401: "the key was refused; check the variable or file that api_key_env or api_key_file names",
    402: "the account is out of credit",
    403: "the key may not do this; check its rights and the model's name",
    404: "not found; check model and base_url (it ends in /v1 on most servers)",
    405: "base_url is not a chat-completions endpoint",
}
"""What no further try mends."""


class TooLarge(Exception):
    """The answer is longer than allowed, or could become so. The message says which."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a call failed, in one line. final: no other call will do better, the settings are wrong."""

    text: str
    final: bool


def make_client(base_url: str, key: str, timeout: float, retries: int, max_bytes: int) -> Any:
    """An `openai.AsyncOpenAI` that follows no redirect, reads no more than max_bytes and takes nothing from the environment.

    To be made on the loop that will use it.
    """
    import openai

    base = next(one for one in openai.DefaultAsyncHttpxClient.__mro__ if one.__name__ == "AsyncClient")
    httpx: Any = importlib.import_module(base.__module__.partition(".")[0])  # openai 3 stands on httpx2, openai 2 on httpx

    class Bounded(httpx.AsyncByteStream):
        """The bytes of an answer, counted."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            seen = 0
            async for chunk in self.stream:
                seen += len(chunk)
                if seen > max_bytes:
                    raise TooLarge(f"the answer is longer than {max_bytes} bytes (max_bytes)")
                yield chunk

        async def aclose(self) -> None:
            await self.stream.aclose()

    async def bound(response: Any) -> None:
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":  # it was not asked for, and a small answer could unpack to any size
            raise TooLarge("the answer is packed, though it was asked for plain; switch compression off at the server")
        response.stream = Bounded(response.stream)
        for name, value in response.headers.items():  # some are logged, and a server may repeat what it was sent
            if hide(value, key) != value:
                response.headers[name] = hide(value, key)

    for name in ("httpcore2", "httpcore"):  # at DEBUG they write the answer's headers
        logging.getLogger(f"{name}.http11").setLevel(logging.INFO)
    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, event_hooks={"response": [bound]})
    client = openai.AsyncOpenAI(
        base_url=base_url,
        api_key=key,
        timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
        max_retries=retries,
        http_client=http,
    )
    # read from OPENAI_ variables, and none of this endpoint's business
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {"Accept-Encoding": "identity"}
    return client


def explain(error: Exception, retries: int) -> Failure:
    """The line for whatever a call raised."""
    import openai

    for one in (error, error.__cause__):  # openai 2 takes it for a lost connection
        if isinstance(one, TooLarge):
            return Failure(str(one), final=False)
    tried = f" after {retries + 1} tries" if retries else ""
    if isinstance(error, openai.APITimeoutError):
        return Failure(f"the server did not answer in time{tried}; raise timeout or lower concurrency", final=False)
    if isinstance(error, openai.APIConnectionError):
        cause = " ".join(str(error.__cause__ or error).split())[:200]
        return Failure(f"no connection{tried} ({cause}); is the server up, and base_url right?", final=False)
    if isinstance(error, openai.APIStatusError):
        status, said = error.status_code, error_text(error.body)
        said = f" ({said})" if said else ""
        if 300 <= status < 400:
            return Failure(f"the server redirects (status {status}), which is not followed; give its final address as base_url", final=True)
        if status in WRONG:
            return Failure(f"status {status}: {WRONG[status]}{said}", final=True)
        if status == 429:
            return Failure(f"status 429: too many requests{tried}{said}; lower concurrency or raise retries", final=False)
        if status >= 500:
            return Failure(f"status {status}: the server failed{tried}{said}", final=False)
        return Failure(f"status {status}: the request was refused{said}", final=False)
    return Failure(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", final=False)
