"""One event loop in a thread of its own, for clients whose connections must outlive a single `asyncio.run`."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""By process id: a forked child has no such thread and starts its own."""


def loop() -> asyncio.AbstractEventLoop:
    """The loop of this process; it starts with the first call and ends with the process."""
    with _lock:
        here = os.getpid()
        if here not in _loops:
            made = asyncio.new_event_loop()
            threading.Thread(target=made.run_forever, name="burnish-chat", daemon=True).start()
            _loops[here] = made
        return _loops[here]


async def there(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine on the background loop and waits for it on this one. A cancelled wait cancels it there."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop()))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, also where this thread runs a loop already (then in a thread of its own)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    found: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="burnish-chat-run")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]
