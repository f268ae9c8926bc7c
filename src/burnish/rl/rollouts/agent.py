"""agent: any async function `agent(item, chat) -> outcome` written against ChatModel becomes a thinker."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from burnish.chat.in_process import PolicyChat
from burnish.records import Item, Rollout, StopReason, Turn
from burnish.rl.session import Session, as_finished
from burnish.runs.errors import UserError
from burnish.runs.parts import find, make

PACKAGE = "burnish.rl.rollouts"


class Agent:
    """Runs `agent(item, chat)` once for each rollout of an item.

    agent: the function, or its name (`file.py:name`). With `roles` it receives a dict of role name -> ChatModel; every role speaks with
    the same weights.
    Each call is recorded as a Turn. An episode yields one rollout per role that spoke; they share `episode`, and a role
    not named in `trained` (default: all) is recorded but kept out of the loss. What the agent returns becomes
    `Rollout.outcome`; an exception ends the episode with `StopReason.ERROR` and its text as outcome.
    """

    requires = frozenset({"token_ids", "logprobs"})

    def __init__(self, agent: Callable[..., Awaitable[Any]] | str, roles: Sequence[str] = (), trained: Sequence[str] | None = None) -> None:
        agent = find(PACKAGE, agent) if isinstance(agent, str) else agent
        if not inspect.iscoroutinefunction(agent):
            raise UserError(
                f"agent {getattr(agent, '__name__', agent)!r} is not an async function; write `async def agent(item, chat): ...`"
            )
        unknown = set(trained or ()) - set(roles or ("policy",))
        if unknown:
            raise UserError(f"thinker.trained names {sorted(unknown)}, which are not among the roles {list(roles) or ['policy']}")
        self.agent, self.roles = agent, tuple(roles)
        self.trained = frozenset(trained if trained is not None else self.roles or ("policy",))

    async def think(self, items: Sequence[Item], session: Session) -> AsyncIterator[Rollout]:
        """Runs all episodes concurrently; yields the rollouts of each as it ends."""
        async for rollouts in as_finished(self._episode(item, index, session) for item in items for index in range(item.group_size)):
            for rollout in rollouts:
                yield rollout

    async def _episode(self, item: Item, index: int, session: Session) -> list[Rollout]:
        names = self.roles or ("policy",)
        recorded: dict[str, list[Turn]] = {name: [] for name in names}
        chats = {name: self._chat(name, recorded[name], item, index, session) for name in names}
        try:
            outcome, stop = await self.agent(item, chats if self.roles else chats[names[0]]), StopReason.TERMINATED
        except Exception as error:
            # One broken episode must not end the run; the reward sees StopReason.ERROR and calls it invalid.
            outcome, stop = f"{type(error).__name__}: {error}", StopReason.ERROR
        spoke = [name for name, turns in recorded.items() if turns]
        if stop == StopReason.ERROR and not spoke:
            spoke = [name for name in names if name in self.trained][:1]  # broken at its first step: recorded all the same, without a turn
        episode = f"{item.id}/{index}"
        return [
            Rollout(item_id=item.id, index=index, turns=recorded[name], stop=stop, agent=name, episode=episode, outcome=outcome)
            for name in spoke
        ]

    def _chat(self, name: str, turns: list[Turn], item: Item, index: int, session: Session) -> PolicyChat:
        return PolicyChat(
            session.policy,
            session.engine,
            sampling=session.sampling,
            agent=name,
            seed=session.seed_of(item, index, name),
            recorder=turns,
            template_args=session.template_args,
            max_new_tokens=item.limits.max_new_tokens,
            train=name in self.trained,
        )


def make_thinker(spec: Any) -> Any:
    """A thinker from a name, a mapping with arguments or an object; an async function `agent(item, chat)` becomes an `Agent`.

    Raises UserError for unknown names and arguments, and for what has no `think`.
    """
    made = make(PACKAGE, spec)
    if inspect.iscoroutinefunction(made):
        return Agent(made)
    if not hasattr(made, "think"):
        raise UserError(
            f"thinker {spec!r} cannot think: it must be a class with `think(items, session)`, or an async function `agent(item, chat)`"
        )
    return made


part = Agent
