"""Seams of tool episodes: injected observations, and two episodes whose tools take different times."""

import asyncio

import numpy as np
import pytest

from burnish.models.rows import rows_of
from burnish.records import Rollout
from burnish.rl.session import as_finished


class Tools:
    """Act, call `tool(item, index, turn) -> ids`, have its answer injected, act again. One turn for each action, one cache row."""

    def __init__(self, tool):
        self.tool = tool

    async def think(self, items, session):
        async for rollout in as_finished(self.episode(item, index, session) for item in items for index in range(item.group_size)):
            yield rollout

    async def episode(self, item, index, session):
        engine, turns = session.engine, []
        seed = session.seed_of(item, index)
        handle = engine.prefill(session.prompt_ids(item), sampling=session.sampling, seed=seed, max_new_tokens=item.limits.max_new_tokens)
        for number in range(item.limits.max_turns):
            if number:
                engine.append(handle, await self.tool(item, index, number))
            turns.append(await engine.decode(handle))
            handle.new_turn()
        engine.free(handle)
        return Rollout(item.id, index, turns, "terminated")


async def clock(item, index, turn):
    """A tool that answers at once."""
    return [60, 48 + index, 48 + turn, 62]


def test_injected_observations_are_context_never_loss(wire, fixed, dtype):
    run = wire(Tools(clock), curriculum=fixed(max_new_tokens=4, max_turns=3), dtype=dtype)
    batch, _ = run.step()
    kept = run.agrees(batch)
    for rollout in kept:
        first, *later = rollout.turns
        assert not first.injected.any()
        for number, turn in enumerate(later, 1):
            assert turn.output_ids[:4] == [60, 48 + rollout.index, 48 + number, 62]
            assert turn.injected.tolist() == [True] * 4 + [False] * (len(turn.output_ids) - 4)
            assert turn.context_ids == rollout.turns[number - 1].context_ids + rollout.turns[number - 1].output_ids
        # All turns share one row; its targets are the sampled tokens alone.
        (row,), _ = rows_of([rollout])
        last = rollout.turns[-1]
        assert row.ids.tolist() == last.context_ids + last.output_ids
        places = [len(turn.context_ids) + place for turn in rollout.turns for place in np.flatnonzero(~turn.injected)]
        assert row.targets.tolist() == places
    assert run.seen["table"].n_tokens == sum(int((~turn.injected).sum()) for rollout in kept for turn in rollout.turns)


def test_forced_tokens_get_the_models_own_log_probs_too(wire, fixed, dtype):
    run = wire(Tools(clock), curriculum=fixed(max_new_tokens=4, max_turns=2), dtype=dtype)
    batch = run.source.collect(1, 0)
    rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
    sampled = np.concatenate([turn.logprobs for rollout in rollouts for turn in rollout.turns])
    for rollout in rollouts:
        for turn in rollout.turns:
            turn.injected[:] = False
    found = run.policy.score(rollouts)["policy.logp"].numpy()
    np.testing.assert_allclose(found, sampled, atol=2e-5 if found.dtype == np.float32 else 1e-10, rtol=0)


def test_an_episode_that_breaks_ends_the_round_and_leaves_nothing_running(wire, fixed):
    async def tool(item, index, turn):
        if index == 1:
            raise OSError("the tool is gone")
        return await clock(item, index, turn)

    run = wire(Tools(tool), curriculum=fixed(group_size=3, max_new_tokens=30, max_turns=2))
    with pytest.raises(OSError, match="the tool is gone"):
        run.source.collect(1, 0)
    assert not run.source.engine.busy


class Rendezvous:
    """Tools that take different times, told by events: the first tool of episode 1 answers only after episode 0 has ended its second
    action, and the second tool of episode 0 only after episode 1 has ended its second action. Waiting for each other, both would hang.
    """

    def __init__(self):
        self.log, self.engine = [], None
        self.gates = {index: asyncio.Event() for index in (0, 1)}

    async def __call__(self, item, index, turn):
        wait = {(1, 1): 0, (0, 2): 1}.get((index, turn))
        if turn == 2:
            self.gates[index].set()
        self.log.append(("asks", index, turn, self.engine.stats["steps"]))
        if wait is not None:
            await self.gates[wait].wait()
        self.log.append(("answers", index, turn, self.engine.stats["steps"]))
        return await clock(item, index, turn)


def test_episodes_whose_tools_take_different_times_do_not_wait_for_each_other(wire, fixed):
    tool = Rendezvous()
    limits = {"group_size": 2, "max_new_tokens": 4, "max_turns": 3}
    run = wire(Tools(tool), curriculum=fixed(1, **limits), prompts=1)
    tool.engine = run.source.engine

    async def guarded(items, session, think=run.source.thinker.think):
        async with asyncio.timeout(20):
            async for rollout in think(items, session):
                yield rollout

    run.source.thinker.think = guarded
    batch, _ = run.step()
    at = {(what, index, turn): (place, steps) for place, (what, index, turn, steps) in enumerate(tool.log)}
    # Episode 0 took its second action while episode 1's first tool ran, and the other way round.
    assert at["asks", 1, 1] < at["asks", 0, 2] < at["answers", 1, 1]
    assert at["asks", 0, 2] < at["asks", 1, 2] < at["answers", 0, 2]
    assert at["asks", 0, 2][1] - at["answers", 0, 1][1] >= 1
    assert at["answers", 1, 1][1] == at["asks", 0, 2][1] < at["asks", 1, 2][1]
    run.agrees(batch)
    # The tools' times change nothing in the tokens: the same episodes with instant tools are the same to the bit (exact mode).
    assert run.source.engine.mode == "exact"
    again = wire(Tools(clock), curriculum=fixed(1, **limits), prompts=1)
    other = again.source.collect(1, 0)
    for one, two in zip(batch.groups[0].rollouts, other.groups[0].rollouts):
        assert one.output_ids == two.output_ids
        assert all(np.array_equal(a.logprobs, b.logprobs) for a, b in zip(one.turns, two.turns))
