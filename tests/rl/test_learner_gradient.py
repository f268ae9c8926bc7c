"""One optimiser step has one gradient: any cut, any order, shared prompts or not, checkpointing or not, for six model types."""

import copy
import itertools

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout, Sampling, Score
from burnish.rl.batch import Batch
from burnish.rl.learner import Learner
from burnish.rl.measure import Measurer
from burnish.rl.objectives import presets

WINDOW = 5  # shorter than every prompt


def make_policy(kind: str) -> Policy:
    window = WINDOW if kind in tiny.WINDOWED else None
    vocabulary = tokenizer.byte_level()
    model = tiny.make(kind, vocabulary, hidden=32, layers=3, heads=4, kv_heads=2, window=window, dtype=torch.float64)
    return Policy(model, vocabulary)


def make_batch(policy: Policy, seed: int = 0) -> Batch:
    """Three groups of four ragged completions with random rewards, one rollout dropped, one invalid."""
    rng = np.random.default_rng(seed)
    prompts = [rng.integers(40, 110, size=n).tolist() for n in (7, 12, 20)]
    turns = generate(Engine(policy.model, eos_ids=policy.eos_ids), prompts, Sampling(), n=4, max_new_tokens=9, seeds=seed)
    groups = []
    for number, (prompt, members) in enumerate(zip(prompts, turns)):
        for place, turn in enumerate(members):
            del turn.output_ids[3 + place :]
            size = len(turn.output_ids)
            for name in ("logprobs", "injected", "version"):
                setattr(turn, name, getattr(turn, name)[:size])
        rollouts = [Rollout(f"p{number}", place, [turn], turn.stop) for place, turn in enumerate(members)]
        scores = [Score(float(rng.normal()), invalid=(number, place) == (2, 1)) for place in range(4)]
        groups.append(Group(Item(f"p{number}", prompt, 4), rollouts, scores))
    keep = [
        [(number, place) != (1, 2) and not score.invalid for place, score in enumerate(group.scores)] for number, group in enumerate(groups)
    ]
    return Batch(1, 0, groups, keep)


def gradient(policy: Policy, batch: Batch, **settings) -> dict[str, torch.Tensor]:
    """The gradient that the optimiser would see."""
    seen: dict[str, torch.Tensor] = {}

    def mover(names=None):
        seen.update({name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None})
        policy.model.zero_grad(set_to_none=True)
        return {}

    objective = presets.make("grpo").with_(beta=0).for_run(4, 9)
    Learner(policy, objective, Measurer({"policy": policy}), **settings).update(batch, 1, mover)
    return seen


def shuffled(batch: Batch, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    groups, keep = [], []
    for number in rng.permutation(len(batch.groups)):
        group, places = batch.groups[number], rng.permutation(4)
        groups.append(Group(group.item, [group.rollouts[p] for p in places], [group.scores[p] for p in places]))
        keep.append([batch.keep[number][p] for p in places])
    return Batch(batch.step, batch.version, groups, keep)


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert len(a) > 5
    scale = max(float(value.abs().max()) for value in b.values())
    assert scale > 1e-6
    assert max(float((a[name] - b[name]).abs().max()) for name in b) <= 1e-10 * max(1.0, scale)


@pytest.mark.parametrize("kind", list(tiny.KINDS))
def test_one_gradient_for_every_way_to_compute_it(kind):
    torch.set_num_threads(1)
    policy = make_policy(kind)
    batch = make_batch(policy)
    plain = gradient(policy, batch, share_prefix=False, micro_tokens=10**9)
    for share, checkpointing in itertools.product((False, "always"), (False, True)):
        if checkpointing:
            policy.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            policy.model.gradient_checkpointing_disable()
        for micro_tokens, order in ((10**9, 1), (45, 2), (20, 3), (1, 4)):
            assert_same(gradient(policy, shuffled(batch, order), share_prefix=share, micro_tokens=micro_tokens), plain)


def test_what_is_not_kept_changes_nothing_even_where_it_is_nan():
    torch.set_num_threads(1)
    policy = make_policy("qwen3")
    batch = make_batch(policy)
    plain = gradient(policy, batch)
    spoiled = copy.deepcopy(batch)
    for number, place in ((1, 2), (2, 1)):
        spoiled.groups[number].scores[place].reward = float("nan")
        spoiled.groups[number].rollouts[place].turns[0].logprobs[:] = np.nan
    found = gradient(policy, spoiled)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_the_objective_is_the_hand_computed_one():
    """Dr. GRPO's gradient on one micro-batch against plain PyTorch on each row alone."""
    torch.set_num_threads(1)
    policy = make_policy("llama")
    batch = make_batch(policy, 5)
    objective = presets.make("dr_grpo").for_run(4, 9)
    seen: dict[str, torch.Tensor] = {}

    def mover(names=None):
        seen.update({name: p.grad.clone() for name, p in policy.model.named_parameters()})
        policy.model.zero_grad(set_to_none=True)
        return {}

    Learner(policy, objective, Measurer({"policy": policy}), micro_tokens=30).update(batch, 1, mover)
    kept = [[n for n in range(4) if flags[n]] for flags in batch.keep]
    total = sum(map(len, kept))
    loss = torch.zeros((), dtype=torch.float64)
    for group, members in zip(batch.groups, kept):
        centre = np.mean([group.scores[n].reward for n in members])
        for n in members:
            turn = group.rollouts[n].turns[0]
            ids = torch.tensor([turn.context_ids + turn.output_ids])
            logp = policy.model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            logp = logp[-len(turn.output_ids) :]
            loss = loss - (group.scores[n].reward - centre) * (logp - logp.detach()).exp().sum() / (total * 9)
    loss.backward()
    hand = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    assert_same(seen, hand)
