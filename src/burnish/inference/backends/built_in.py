"""built_in: the session engine of this process, as a backend. It has every capability and shares the policy's weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from burnish.inference.backends.protocol import CAPABILITIES, Chunk, Request, merged
from burnish.inference.engine import Engine
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.session import AsyncEngine
from burnish.records import Sampling


class BuiltIn:
    """engine: an Engine that is there already; None makes one for the policy that `bind` is told.

    The RL loop drives the engine's session verbs directly (`rl.session`): the samples are the same, bit for bit.
    """

    capabilities = frozenset(CAPABILITIES)

    def __init__(self, engine: Engine | None = None) -> None:
        self._session = None if engine is None else AsyncEngine(engine)

    def check(self, sampling: Sampling) -> None:
        """Everything can be sampled."""

    def bind(self, policy: Any) -> None:
        """Makes the engine on the policy's weights, which are shared, not copied."""
        self._session = AsyncEngine(Engine(policy.model, policy.tokenizer, policy.eos_ids, max_length=policy.max_length))

    def refresh(self, version: int) -> None:
        """See `Engine.refresh`."""
        self._bound.refresh(version)

    async def submit(self, request: Request) -> AsyncIterator[Chunk]:
        """The prompt is prefilled once and forked; a chunk is one token, the last one is empty."""
        session = self._bound
        first = session.prefill(
            request.prompt, sampling=request.sampling, seed=request.seeds[0], max_new_tokens=request.max_new_tokens
        )  # fmt: skip
        handles = [first, *session.fork(first, request.n - 1, request.seeds[1:])] if request.n > 1 else [first]
        try:
            async for chunk in merged([self._completion(index, handle) for index, handle in enumerate(handles)]):
                yield chunk
        finally:
            for handle in handles:
                session.free(handle)

    async def _completion(self, index: int, handle: Handle) -> AsyncIterator[Chunk]:
        queue: asyncio.Queue[Chunk | None] = asyncio.Queue()

        def token(event: TokenEvent) -> None:
            queue.put_nowait(Chunk(index, (event.token,), (event.logprob,), handle.versions[-1]))

        decoding = asyncio.ensure_future(self._bound.decode(handle, stream=token))
        decoding.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
            yield Chunk(index, (), (), self._bound.engine.version, (await decoding).stop)
        finally:
            decoding.cancel()

    def close(self) -> None:
        """The engine goes with its last user."""
        self._session = None

    @property
    def _bound(self) -> AsyncEngine:
        if self._session is None:
            raise RuntimeError("the built-in backend has no engine yet; call bind(policy) first")
        return self._session


part = BuiltIn
