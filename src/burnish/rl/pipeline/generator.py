"""The generator: draws, has the policy think, scores and filters, always under the newest weights it has heard of.

Up to k + 1 batches are on their way at once: the next is begun as soon as every row of those before it has a slot of the engine, so that
a long completion keeps nobody waiting. New weights are loaded between two steps of the engine; half-finished completions go on under them
with the keys and values that they have. Batch j is begun only at version j - 1 - k or later.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import time
from pathlib import Path
from typing import Any, Protocol

from burnish.inference.session import AsyncEngine
from burnish.records import Item, Rollout, Sampling
from burnish.rl.pipeline import weights
from burnish.rl.pipeline.spool import Opened, Writer
from burnish.rl.scoring import score_groups
from burnish.rl.session import Session
from burnish.rl.source import Collecting, Source, distinct
from burnish.runs import seeds

GLANCE = 0.005
"""Seconds between two looks at whether the engine has room for another batch."""


class Hears(Protocol):
    """What the generator reads of its inbox: the newest version of the weights that are in the folder."""

    version: int


@dataclasses.dataclass
class Work:
    """A batch on its way: its rounds, and the round that is being thought about."""

    collecting: Collecting
    sampling: Sampling
    items: list[Item]
    task: asyncio.Task[list[list[Rollout]]]


class Generator:
    """source: with an engine of its own. folder: the spool's, with the weights in it. lag: k. total: batches that are wanted.

    Parts are called from one thread, and never while the event loop runs, so a reward may run a loop of its own; the engine pauses
    meanwhile. `thinker.think` runs for several steps at once, for one item each.
    """

    def __init__(self, source: Source, folder: Path, lag: int, total: int, inbox: Hears | None = None):
        self.source, self.folder, self.lag, self.total = source, folder, lag, total
        self.loop = asyncio.new_event_loop()
        self.inbox = inbox
        self._changed = asyncio.Event()
        self.engine = AsyncEngine(source.engine)
        self.spool = Writer(folder)
        self._restore(self.spool.state)
        self.version = -1
        self.works: dict[int, Work] = {}
        self.left = list(self.spool.opened)
        self.next = self.spool.journal.next
        self._idle, self._since = 0.0, time.perf_counter()

    def heard(self) -> None:
        """From any thread: there is something new in the inbox."""
        self.loop.call_soon_threadsafe(self._changed.set)

    def serve(self) -> None:
        """Works until the process ends."""
        while True:
            self.turn()

    def close(self) -> None:
        """Drops what is half-done and closes the event loop."""
        for task in (tasks := asyncio.all_tasks(self.loop)):
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def turn(self) -> None:
        """Newest weights, new batches, a stretch of decoding, and whatever is finished."""
        self._changed.clear()
        self._load()
        while self._start() and self.works:
            self.loop.run_until_complete(_let_it_queue())
        start, idle = time.perf_counter(), not self.works
        self.loop.run_until_complete(self._wait())
        if idle:
            self._idle += time.perf_counter() - start
        for step in [step for step, work in sorted(self.works.items()) if work.task.done()]:
            self._advance(step)

    # -- weights

    def _load(self) -> None:
        if self.inbox is not None and self.inbox.version > self.version:
            self.version = weights.read(self.folder, self.source.policy.model)
            self.source.engine.refresh(self.version)

    # -- batches

    def _allowed(self, step: int) -> bool:
        return step <= self.total and self.version >= step - 1 - self.lag

    def _upcoming(self) -> int:
        return self.left[0].step if self.left else self.next

    def _start(self) -> bool:
        """Begins the next batch where it may begin and the engine has room for it."""
        step = self._upcoming()
        if not self._allowed(step) or (self.works and self.source.engine.waiting):
            return False
        filters = [one if hasattr(one, "state_dict") or hasattr(one, "extend") else copy.deepcopy(one) for one in self.source.filters]
        if self.left:
            self._resume(self.left.pop(0), filters)
            return True
        self.next += 1
        collecting = Collecting(self.source, step, self.version, filters=filters)
        sampling = self.source.sampling_at(step)
        self._draw(collecting, sampling, 0)
        return True

    def _resume(self, found: Opened, filters: list[Any]) -> None:
        collecting = Collecting(self.source, found.step, found.version, found.groups, rounds=found.rounds, filters=filters)
        self._think(collecting, found.sampling, found.items, found.have)

    def _draw(self, collecting: Collecting, sampling: Sampling, before: int) -> None:
        """Draws the next round. before: groups there were before the round that was taken last."""
        items = collecting.draw()
        added = collecting.groups[before:]
        self.spool.draw(collecting.step, collecting.rounds, collecting.version, items, sampling, added, self._state())
        self._think(collecting, sampling, items, {})

    def _think(self, collecting: Collecting, sampling: Sampling, items: list[Item], have: dict[int, list[Rollout]]) -> None:
        task = self.loop.create_task(self._thought(collecting.step, collecting.rounds, sampling, distinct(items), have))
        self.works[collecting.step] = Work(collecting, sampling, items, task)

    async def _thought(
        self, step: int, number: int, sampling: Sampling, items: list[Item], have: dict[int, list[Rollout]]
    ) -> list[list[Rollout]]:
        """The rollouts of each item. Each finished group is written down at once; those of `have` are there already."""
        source = self.source
        session = Session(self.engine, source.policy, sampling, source.seed, step, number, source.template_args)
        found = dict(have)

        async def one(place: int, item: Item) -> None:
            rollouts = [rollout async for rollout in source.thinker.think([item], session)]
            found[place] = source.by_item([item], rollouts)[item.id]
            self.spool.group(step, number, place, found[place])

        async with asyncio.TaskGroup() as tasks:
            for place, item in enumerate(items):
                if place not in have:
                    tasks.create_task(one(place, item))
        return [found[place] for place in range(len(items))]

    def _advance(self, step: int) -> None:
        """A round is thought: score it, and draw another or finish the batch."""
        work = self.works.pop(step)
        collecting, source = work.collecting, self.source
        try:
            rollouts = work.task.result()
        except BaseExceptionGroup as error:
            raise first_of(error) from error
        source.refuse_errors([rollout for members in rollouts for rollout in members], step)
        before = len(collecting.groups)
        groups = list(zip(work.items, rollouts, strict=True))
        collecting.take(score_groups(groups, source.reward, source.shapers, source.policy, source.measurer))
        if collecting.open:
            self._draw(collecting, work.sampling, before)
            return
        batch = collecting.batch()
        now = time.perf_counter()
        batch.metrics["pipeline/generator_waiting"] = self._idle / max(now - self._since, 1e-9)
        self._idle, self._since = 0.0, now
        self.spool.finish(batch, self._state())

    async def _wait(self) -> None:
        """Until a round is thought or new weights are there; a moment only, where another batch may begin as soon as there is room."""
        changed = asyncio.ensure_future(self._changed.wait())
        tasks = {work.task for work in self.works.values()}
        moment = GLANCE if self._allowed(self._upcoming()) else None
        await asyncio.wait({changed, *tasks}, timeout=moment, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()

    # -- state

    def _state(self) -> dict[str, Any]:
        return state_of(self.source)

    def _restore(self, state: dict[str, Any]) -> None:
        restore(self.source, state)
        seeds.set_rng_state(state["rng"])


def state_of(source: Source) -> dict[str, Any]:
    """What the source's parts and the global random generators go on from."""
    parts = {name: part.state_dict() for name, part in source.parts.items() if hasattr(part, "state_dict")}
    return {"parts": parts, "rng": seeds.get_rng_state()}


def restore(source: Source, state: dict[str, Any]) -> None:
    """The parts of `state_of`, the random generators left alone."""
    for name, part in source.parts.items():
        if name in state["parts"]:
            part.load_state_dict(state["parts"][name])


def first_of(error: BaseException) -> BaseException:
    """The first error inside groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _let_it_queue() -> None:
    """A few turns of the event loop: the rows of a batch that has just begun are then in the engine's queue."""
    for _ in range(8):
        await asyncio.sleep(0)
