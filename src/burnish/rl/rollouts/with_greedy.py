"""with_greedy: what `single` draws, and one greedy completion more for each item, for baselines that compare with it (ReMax)."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence

from burnish.records import Item, Rollout, StopReason
from burnish.rl.rollouts.single import Single
from burnish.rl.session import Session, as_finished


class WithGreedy(Single):
    """The greedy completion is the last of its group. It is scored like the others and never trained on (`Turn.train` is False)."""

    greedy = True

    async def think(self, items: Sequence[Item], session: Session) -> AsyncIterator[Rollout]:
        """Yields `group_size` + 1 rollouts of one turn for each item, as they finish."""
        waiting = [one for item in items for one in (*self._start(item, session), self._greedy(item, session))]
        async for rollout in as_finished(waiting):
            yield rollout

    async def _greedy(self, item: Item, session: Session) -> Rollout:
        sampling = dataclasses.replace(session.sampling, temperature=0.0)
        seed = session.seed_of(item, item.group_size)
        limit = item.limits.max_new_tokens
        handle = session.engine.prefill(session.prompt_ids(item), sampling=sampling, seed=seed, max_new_tokens=limit)
        turn = await session.engine.decode(handle)
        session.engine.free(handle)
        turn = dataclasses.replace(turn, train=False)
        return Rollout(item_id=item.id, index=item.group_size, turns=[turn], stop=StopReason(turn.stop))


part = WithGreedy
