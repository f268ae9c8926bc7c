"""Seam: paths that are forked from one prompt, thought side by side, and merged for a summary that sees them all."""

import asyncio

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.models import tiny
from burnish.models.policy import Policy
from burnish.records import Rollout, Sampling
from burnish.rl.session import as_finished
from burnish.runs.errors import UserError

SUMMARISE = [83, 58]


class Parallel:
    """ParaThinker's shape: `paths` forks of the prompt, then one summary over the prompt and all of them. One rollout, paths + 1 turns."""

    def __init__(self, paths=2):
        self.paths = paths

    async def think(self, items, session):
        async for rollout in as_finished(self.one(item, index, session) for item in items for index in range(item.group_size)):
            yield rollout

    async def one(self, item, index, session):
        engine, prompt = session.engine, session.prompt_ids(item)
        seeds = [session.seed_of(item, index, path) for path in range(self.paths + 1)]
        limit = item.limits.max_new_tokens
        root = engine.prefill(prompt, sampling=session.sampling, seed=seeds[-1], max_new_tokens=limit)
        paths = engine.fork(root, self.paths, seeds=seeds[:-1])
        turns = list(await asyncio.gather(*(engine.decode(path, limit - n) for n, path in enumerate(paths))))
        layout = [(root, 0, len(prompt)), *((path, len(prompt), len(path.ids)) for path in paths)]
        summary = engine.merge([root, *paths], layout)
        engine.append(summary, SUMMARISE)
        turns.append(await engine.decode(summary))
        for handle in (root, *paths, summary):
            engine.free(handle)
        return Rollout(item.id, index, turns, turns[-1].stop)


def oracle(model, turn, prompt, lengths):
    """Log-probs of the turn's output from one forward pass under a mask written by hand."""
    ids = turn.context_ids + turn.output_ids
    n = len(ids)
    seen = torch.tril(torch.ones(n, n, dtype=torch.bool))
    starts = np.cumsum([prompt, *lengths])
    positions = list(range(prompt)) + [prompt + k for length in lengths for k in range(length)]
    for number, start in enumerate(starts[:-1]):
        for other, first in enumerate(starts[:-1]):
            if other < number:  # a path does not see the paths before it
                seen[start : start + lengths[number], first : first + lengths[other]] = False
    last = prompt + max(lengths)
    positions += range(last, last + n - len(positions))
    mask = torch.zeros(n, n, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)[None, None]
    with torch.no_grad():
        logits = model(torch.tensor([ids]), position_ids=torch.tensor([positions]), attention_mask=mask, use_cache=False).logits[0]
    logp = logits.log_softmax(-1)[len(turn.context_ids) - 1 : -1]
    return logp.gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()


def test_the_learner_reproduces_the_summary_over_merged_paths(wire, fixed, dtype):
    run = wire(Parallel(), curriculum=fixed(max_new_tokens=6), dtype=dtype)
    batch = run.queue.get(1, 1)
    rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
    for rollout in rollouts:
        one, two, summary = rollout.turns
        prompt = one.context_ids
        assert summary.context_ids == prompt + one.output_ids + two.output_ids
        assert summary.output_ids[:2] == SUMMARISE
        assert summary.injected.tolist() == [True] * 2 + [False] * (len(summary.output_ids) - 2)
        lengths = [len(one.output_ids), len(two.output_ids)]
        expected = oracle(run.policy.model, summary, len(prompt), lengths)
        assert np.isnan(summary.logprobs[0])  # no state predicts the first token after a merge; it is forced
        np.testing.assert_allclose(summary.logprobs[1:], expected[1:], atol=2e-5 if dtype == torch.float32 else 1e-10, rtol=0)
    run.learner.update(batch, 1, run.mover)
    run.agrees(batch)


@pytest.mark.parametrize("kind", ["qwen3", "mistral", "gemma2", "llama", "gpt2", "opt"])
def test_merged_rows_of_every_kind_windows_included(kind):
    window = 7 if kind in ("qwen3", "mistral", "gemma2") else None
    model = tiny.make(kind, hidden=32, layers=2, window=window, dtype=torch.float64)
    engine, policy = Engine(model, mode="fast", slots=4), Policy(model)
    prompt = [65, 66, 67, 68, 69]
    hot = Sampling(temperature=0.7)
    one, two = engine.fork(engine.prefill(prompt, sampling=hot, seed=1, max_new_tokens=6), 2)
    turns = engine.decode([one, two])
    # The first path brings the prompt along; the second lies beside it, at the same positions.
    merged = engine.merge([one, two], [(one, 0, len(one.ids)), (two, 5, len(two.ids))])
    engine.append(merged, SUMMARISE)
    turns += engine.decode([merged])
    merged.new_turn()
    engine.append(merged, [33])
    turns += engine.decode([merged])
    # Another rollout without any merge shares the batch, before and behind.
    plain = engine.decode([engine.prefill(prompt, sampling=hot, seed=5, max_new_tokens=9)])
    rollouts = [Rollout("a", 0, plain), Rollout("a", 1, turns), Rollout("a", 2, plain)]
    sampled = np.concatenate([turn.logprobs[turn.loss_mask] for rollout in rollouts for turn in rollout.turns])
    for share in (False, "always"):
        found = policy.score(rollouts, share_prefix=share)["policy.logp"].numpy()
        np.testing.assert_allclose(found, sampled, atol=1e-10, rtol=0)
    # With gradient checkpointing the gradient is the same.
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy.score(rollouts, grad=True)["policy.logp"].sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_whole_rows_merge_as_strangers_and_a_path_without_its_prompt_is_refused():
    model = tiny.make("qwen3", hidden=32, layers=2, dtype=torch.float64)
    engine, policy = Engine(model, mode="fast", slots=4), Policy(model)
    one, two = (engine.prefill([65 + k, 66, 67], seed=k, max_new_tokens=4) for k in range(2))
    engine.decode([one, two])
    merged = engine.merge([one, two])
    engine.append(merged, SUMMARISE)
    (turn,) = engine.decode([merged])
    found = policy.score([Rollout("a", 0, [turn])])["policy.logp"].numpy()
    np.testing.assert_allclose(found, turn.logprobs[2:], atol=1e-10, rtol=0)

    cut = engine.merge([one, two], [(one, 0, len(one.ids)), (two, 3, len(two.ids))])
    engine.append(cut, SUMMARISE)
    (turn,) = engine.decode([cut])
    with pytest.raises(UserError, match=r"item 'a'.*left out 3 tokens"):
        policy.score([Rollout("a", 0, [turn])])
