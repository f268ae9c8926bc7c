"""Session: everything a thinker may use while it turns items into rollouts."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

from burnish.inference.session import AsyncEngine
from burnish.models.policy import Policy
from burnish.records import Item, Sampling
from burnish.runs.seeds import seed_for

T = TypeVar("T")


async def as_finished(coroutines: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[T]:
    """Runs them concurrently, started in the given order (asyncio.as_completed alone starts coroutines in any order), and yields each
    result as it comes. Whatever still runs when this ends, by an error or because nobody reads on, is cancelled.
    """
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for task in tasks:
            task.cancel()


@dataclasses.dataclass
class Session:
    """One round of thinking.

    engine: the asyncio view of the session engine; with another backend the verbs that plain sampling needs (a thinker that declares
    `requires`, a frozenset of capabilities, is never given less). policy: encodes prompts and decodes ids.
    sampling: the run's sampling settings. template_args: handed to the chat template.
    step, round, seed: where the random numbers come from; see `seed_of`.
    """

    engine: AsyncEngine
    policy: Policy
    sampling: Sampling
    seed: int = 0
    step: int = 0
    round: int = 0
    template_args: dict[str, Any] = dataclasses.field(default_factory=dict)

    def seed_of(self, item: Item, index: int, *more: int | str) -> int:
        """The seed of one stretch of sampling: the same for the same run seed, step, round, item, index and extra keys."""
        return seed_for(self.seed, "think", self.step, self.round, item.id, index, *more)

    def prompt_ids(self, item: Item) -> list[int]:
        """The item's prompt as token ids; chat messages are rendered once, with the item's tools column where it has one."""
        if not item.is_chat:
            return item.token_ids
        return self.policy.encode(item.messages, tools=item.columns.get("tools"), **self.template_args)
