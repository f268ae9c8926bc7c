"""AsyncEngine: one engine for any number of coroutines and threads; a slow tool in one keeps nobody waiting."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from burnish.inference.engine import Engine
from burnish.inference.handle import Handle, TokenEvent
from burnish.records import Sampling, StopReason, Turn


class AsyncEngine:
    """The engine's verbs for asyncio. `await decode(handle)` gives the turn when it stops; a driver task steps the engine while any
    row is live and lets other coroutines run after every step. Rows are admitted in the order of the decode calls.

    All verbs may be called from other threads too (`submit` is `decode` for those). Cancelling a coroutine that waits in `decode`
    frees its row's slot at once. An error inside a step reaches everyone who waits.
    """

    def __init__(self, engine: Engine):
        self.engine = engine
        self._lock = threading.RLock()
        self._waiting: dict[int, tuple[Handle, concurrent.futures.Future[Turn], Callable[[TokenEvent], Any] | None]] = {}
        self._driver: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def prefill(
        self,
        ids: Sequence[int] | None = None,
        *,
        embeds: torch.Tensor | None = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        agent: str = "policy",
        extras: dict[str, Any] | None = None,
        replay: dict[str, np.ndarray] | None = None,
    ) -> Handle:
        """See `Engine.prefill`."""
        with self._lock:
            return self.engine.prefill(
                ids,
                embeds=embeds,
                sampling=sampling,
                seed=seed,
                max_new_tokens=max_new_tokens,
                agent=agent,
                extras=extras,
                replay=replay,
            )

    def fork(self, handle: Handle, n: int, seeds: Sequence[int] | None = None) -> list[Handle]:
        """See `Engine.fork`."""
        with self._lock:
            return self.engine.fork(handle, n, seeds)

    def append(self, handle: Handle, ids: Sequence[int]) -> None:
        """See `Engine.append`."""
        with self._lock:
            self.engine.append(handle, ids)

    def merge(
        self, handles: Sequence[Handle], layout: Sequence[tuple[Handle, int, int]] | None = None, position: int | None = None
    ) -> Handle:
        """See `Engine.merge`."""
        with self._lock:
            return self.engine.merge(handles, layout, position)

    def free(self, handle: Handle) -> None:
        """See `Engine.free`."""
        with self._lock:
            self.engine.free(handle)

    def cancel(self, handle: Handle) -> None:
        """See `Engine.cancel`; whoever waits for the row gets its turn so far, which ends with "cancelled"."""
        with self._lock:
            self.engine.cancel(handle)
            self._deliver()

    def load_weights(self, state: Mapping[str, torch.Tensor], version: int) -> None:
        """See `Engine.load_weights`; takes effect between two steps."""
        with self._lock:
            self.engine.load_weights(state, version)

    def refresh(self, version: int) -> None:
        """See `Engine.refresh`."""
        with self._lock:
            self.engine.refresh(version)

    async def decode(self, handle: Handle, max_new_tokens: int | None = None, stream: Callable[[TokenEvent], Any] | None = None) -> Turn:
        """Decode one row until it stops. stream: called with each of its tokens; a true value from it ends the turn ("stop")."""
        self._loop = asyncio.get_running_loop()
        future = self._enlist(handle, max_new_tokens, stream)
        self._wake()
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            with self._lock:
                self._waiting.pop(id(handle), None)
                self.engine.cancel(handle)
            raise

    def submit(self, handle: Handle, max_new_tokens: int | None = None) -> concurrent.futures.Future[Turn]:
        """`decode` from another thread: a future of the turn. Some coroutine must have started the loop with `serve` or `decode`."""
        future = self._enlist(handle, max_new_tokens, None)
        if self._loop is None:
            raise RuntimeError("submit: no event loop drives this engine yet; await AsyncEngine.serve() or decode() in one first")
        self._loop.call_soon_threadsafe(self._wake)
        return future

    async def serve(self) -> None:
        """Bind this engine to the running event loop, so that threads may `submit`."""
        self._loop = asyncio.get_running_loop()

    def _enlist(
        self, handle: Handle, max_new_tokens: int | None, stream: Callable[[TokenEvent], Any] | None
    ) -> concurrent.futures.Future[Turn]:
        future: concurrent.futures.Future[Turn] = concurrent.futures.Future()
        with self._lock:
            self.engine.start([handle], max_new_tokens)
            self._waiting[id(handle)] = (handle, future, stream)
        return future

    def _wake(self) -> None:
        if self._driver is None or self._driver.done():
            assert self._loop is not None
            self._driver = self._loop.create_task(self._drive())

    async def _drive(self) -> None:
        # One turn of the loop first: coroutines that are about to decode join the very first step.
        await asyncio.sleep(0)
        while self._waiting:
            try:
                with self._lock:
                    for event in self.engine.step():
                        self._hand_on(event)
                    self._deliver()
            except BaseException as error:
                waiting, self._waiting = self._waiting, {}
                for handle, future, _ in waiting.values():
                    self.engine.cancel(handle)
                    future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                return
            await asyncio.sleep(0)

    def _hand_on(self, event: TokenEvent) -> None:
        _, _, stream = self._waiting.get(id(event.handle), (None, None, None))
        if stream is not None and stream(event) and event.handle.running:
            self.engine.pause(event.handle)
            event.handle.stop = StopReason.STOP

    def _deliver(self) -> None:
        for key, (handle, future, _) in list(self._waiting.items()):
            if not handle.running:
                del self._waiting[key]
                if not future.cancelled():
                    future.set_result(handle.turn())
