"""AsyncEngine: many coroutines and threads on one engine; nobody waits for another's tool."""

from __future__ import annotations

import asyncio
import threading

import pytest

from burnish.inference.engine import Engine
from burnish.inference.session import AsyncEngine
from burnish.models import tiny


@pytest.fixture(scope="module")
def model():
    return tiny.make("llama")


@pytest.fixture
def session(model):
    return AsyncEngine(Engine(model, eos_ids=[10_000], slots=8))


async def episode(session: AsyncEngine, number: int, tool) -> list[int]:
    handle = session.prefill([number, 1, 2], seed=number)
    await session.decode(handle, max_new_tokens=6)
    await tool(number)
    session.append(handle, [40, 41])
    turn = await session.decode(handle, max_new_tokens=4)
    session.free(handle)
    return turn.output_ids


def test_many_coroutines_equal_one_at_a_time(session):
    async def no_tool(number):
        await asyncio.sleep(0.001 * (number % 3))

    async def together():
        return await asyncio.gather(*(episode(session, i, no_tool) for i in range(20)))

    many = asyncio.run(together())
    for i in (0, 7, 19):
        assert asyncio.run(episode(session, i, no_tool)) == many[i]
    assert not session.engine.busy


def test_a_slow_tool_keeps_nobody_waiting(session):
    async def main():
        release, order = asyncio.Event(), []

        async def tool(number):
            if number == 0:
                await release.wait()

        async def run(number):
            out = await episode(session, number, tool)
            order.append(number)
            return out

        slow = asyncio.create_task(run(0))
        await asyncio.gather(*(run(i) for i in range(1, 6)))
        assert not slow.done()
        release.set()
        assert len(await slow) == 12
        return order

    assert asyncio.run(main())[-1] == 0


def test_cancelling_frees_the_slot(session):
    async def main():
        handle = session.prefill([1, 2])
        task = asyncio.create_task(session.decode(handle, max_new_tokens=400))
        for _ in range(10):
            await asyncio.sleep(0)
        assert session.engine.busy
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.engine.busy
        assert handle.state == "freed"
        assert len((await session.decode(session.prefill([1, 2]), max_new_tokens=3)).output_ids) == 3

    asyncio.run(main())


def test_threads_submit(session):
    results = {}

    async def main():
        await session.serve()

        def worker(number):
            results[number] = session.submit(session.prefill([number, 3], seed=number), 5).result(timeout=30)

        threads = [threading.Thread(target=worker, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)

    asyncio.run(main())
    alone = session.engine.decode([session.prefill([4, 3], seed=4)], max_new_tokens=5)[0]
    assert results[4].output_ids == alone.output_ids
    assert len(results) == 6


def test_an_error_in_a_step_reaches_everyone_and_the_engine_goes_on(session, monkeypatch):
    async def main():
        monkeypatch.setattr(session.engine, "step", lambda: 1 / 0)
        waits = [session.decode(session.prefill([i]), max_new_tokens=5) for i in (1, 2)]
        assert [type(error) for error in await asyncio.gather(*waits, return_exceptions=True)] == [ZeroDivisionError] * 2
        monkeypatch.undo()
        assert len((await session.decode(session.prefill([1]), max_new_tokens=3)).output_ids) == 3

    asyncio.run(main())


def test_streaming_callback_may_end_the_turn(session):
    async def main():
        seen = []
        handle = session.prefill([1], seed=1)
        turn = await session.decode(handle, max_new_tokens=50, stream=lambda event: seen.append(event.token) or len(seen) == 4)
        assert (turn.output_ids, turn.stop) == (seen, "stop")
        assert len(seen) == 4

    asyncio.run(main())
