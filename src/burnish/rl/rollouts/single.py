"""single: one plain completion per rollout. The item's prompt is prefilled once and forked for the group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from burnish.records import Item, Rollout, StopReason
from burnish.rl.session import Session, as_finished


class Single:
    """The ordinary thinker: prompt in, one turn out."""

    requires = frozenset({"token_ids", "logprobs"})

    async def think(self, items: Sequence[Item], session: Session) -> AsyncIterator[Rollout]:
        """Yields `group_size` rollouts of one turn for each item, as they finish."""
        async for rollout in as_finished(decode for item in items for decode in self._start(item, session)):
            yield rollout

    def _start(self, item: Item, session: Session):
        engine, n = session.engine, item.group_size
        seeds = [session.seed_of(item, index) for index in range(n)]
        limit = item.limits.max_new_tokens
        root = engine.prefill(session.prompt_ids(item), sampling=session.sampling, seed=seeds[0], max_new_tokens=limit)
        handles = [root, *engine.fork(root, n - 1, seeds=seeds[1:])] if n > 1 else [root]
        return [self._finish(item, index, handle, session) for index, handle in enumerate(handles)]

    async def _finish(self, item: Item, index: int, handle, session: Session) -> Rollout:
        turn = await session.engine.decode(handle)
        session.engine.free(handle)
        return Rollout(item_id=item.id, index=index, turns=[turn], stop=StopReason(turn.stop))


part = Single
