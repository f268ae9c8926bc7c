"""interrupted: thinking is cut short at a random length by a forced phrase, then the policy answers (ScaleRL, arXiv 2510.13786)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from burnish.records import Item, Rollout, StopReason
from burnish.rl.session import Session, as_finished
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

PHRASE = "\nTime is up. I stop thinking here and give my final answer.\n</think>\n"


class Interrupted:
    """One turn per rollout. Once low..high tokens are thought (a whole number drawn for each completion, both ends possible) and
    `end` has not appeared, `phrase` is appended and the policy goes on. A completion that has closed its thinking, or ended, is left alone.

    phrase: forced text; its tokens are marked injected, so that they carry no loss. end: text that closes the thinking (default: as in
    the usual templates). The sampled tokens, thinking and answer together, stay under `max_new_tokens` of the item; its answer thus
    has at least max_new_tokens - high. Raises UserError where nothing is left for it.
    """

    def __init__(self, low: int, high: int, phrase: str = PHRASE, end: str = "</think>"):
        if not 1 <= low <= high:
            raise UserError(f"thinker interrupted: low {low} and high {high} must satisfy 1 <= low <= high")
        if not phrase or not end:
            raise UserError("thinker interrupted: phrase and end must not be empty")
        if end not in phrase:
            raise UserError(f"thinker interrupted: the phrase must hold {end!r}, which closes the thinking; change phrase or end")
        self.low, self.high, self.phrase, self.end = low, high, phrase, end

    def check_limit(self, max_new_tokens: int) -> None:
        """Raises UserError where the longest thinking leaves no token for an answer."""
        if self.high >= max_new_tokens:
            raise UserError(f"thinker interrupted: high is {self.high}, but max_new_tokens is {max_new_tokens}; leave room for an answer")

    async def think(self, items: Sequence[Item], session: Session) -> AsyncIterator[Rollout]:
        """Yields `group_size` rollouts of one turn for each item, as they finish."""
        for item in items:
            self.check_limit(item.limits.max_new_tokens)
        forced = list(session.policy.tokenizer(self.phrase, add_special_tokens=False)["input_ids"])
        async for rollout in as_finished(one for item in items for one in self._start(item, session, forced)):
            yield rollout

    def budget(self, item: Item, index: int, session: Session) -> int:
        """Tokens of thinking for one completion: uniform on [low, high]."""
        return int(rng("interrupted", session.seed_of(item, index)).integers(self.low, self.high + 1))

    def _start(self, item: Item, session: Session, forced: list[int]) -> list[Any]:
        engine, n = session.engine, item.group_size
        seeds = [session.seed_of(item, index) for index in range(n)]
        root = engine.prefill(session.prompt_ids(item), sampling=session.sampling, seed=seeds[0])
        handles = [root, *engine.fork(root, n - 1, seeds=seeds[1:])] if n > 1 else [root]
        return [self._finish(item, index, handle, session, forced) for index, handle in enumerate(handles)]

    async def _finish(self, item: Item, index: int, handle: Any, session: Session, forced: list[int]) -> Rollout:
        budget = self.budget(item, index, session)
        turn = await session.engine.decode(handle, budget)
        if StopReason(turn.stop) == StopReason.LENGTH:
            if self.end not in session.policy.decode(turn.output_ids, skip_special_tokens=False):
                session.engine.append(handle, forced)
            turn = await session.engine.decode(handle, item.limits.max_new_tokens - budget)
        session.engine.free(handle)
        return Rollout(item_id=item.id, index=index, turns=[turn], stop=StopReason(turn.stop))


part = Interrupted
