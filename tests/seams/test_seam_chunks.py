"""Seam: a rollout thought in chunks, each of which starts again from the prompt and a short tail of the one before."""

import pytest
import torch

from burnish.models.rows import rows_of
from burnish.records import Rollout
from burnish.rl.session import as_finished


class Chunks:
    """Delethink's shape: one turn a chunk, context = prompt + the last `carry` tokens."""

    def __init__(self, carry=3):
        self.carry = carry

    async def think(self, items, session):
        async for rollout in as_finished(self.trace(item, index, session) for item in items for index in range(item.group_size)):
            yield rollout

    async def trace(self, item, index, session):
        prompt, turns = session.prompt_ids(item), []
        while len(turns) < item.limits.max_turns:
            context = prompt + (turns[-1].output_ids[-self.carry :] if turns else [])
            seed = session.seed_of(item, index, len(turns))
            handle = session.engine.prefill(context, sampling=session.sampling, seed=seed, max_new_tokens=item.limits.chunk)
            turns.append(await session.engine.decode(handle))
            session.engine.free(handle)
            if turns[-1].stop != "length":
                return Rollout(item.id, index, turns, turns[-1].stop)
        return Rollout(item.id, index, turns, "turns")


def test_each_chunk_is_scored_under_its_own_context_and_the_trace_is_one_sequence(wire, fixed, dtype):
    run = wire(Chunks(), curriculum=fixed(max_turns=3, chunk=4), dtype=dtype)
    batch, metrics = run.step()
    kept = run.agrees(batch)
    assert any(len(rollout.turns) == 3 for rollout in kept)
    for group in batch.groups:
        for rollout in group.rollouts:
            contexts = [turn.context_ids for turn in rollout.turns]
            tails = [[], *(turn.output_ids[-3:] for turn in rollout.turns[:-1])]
            assert contexts == [list(group.item.prompt) + tail for tail in tails]
            rows, _ = rows_of([rollout])
            assert [row.ids.tolist() for row in rows] == [turn.context_ids + turn.output_ids for turn in rollout.turns]
            assert all(turn.loss_mask.all() and (turn.version == 0).all() for turn in rollout.turns)
    # GRPO's weight 1 / (N L): L counts all chunks of the trace.
    lengths = torch.tensor([rollout.n_loss_tokens for rollout in kept])
    assert run.seen["weights"].tolist() == pytest.approx(torch.repeat_interleave(1 / (len(kept) * lengths.double()), lengths).tolist())
    assert metrics["num_tokens_step"] == lengths.sum()
    assert batch.metrics["completions/clipped_ratio"] > 0
