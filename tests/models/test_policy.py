"""Policy.score: flat order whatever the cut, NaN-proof, by the turn's temperature, and the small services of a policy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from burnish.models import tiny, tokenizer
from burnish.models.needs import Need, Reduce, Term
from burnish.models.policy import Policy
from burnish.models.rows import flat, sequence_index
from burnish.records import Rollout, Sampling, Turn
from burnish.runs.errors import UserError


def make_rollouts(seed=0, prompts=3, group=3):
    """Ragged groups: single turns, turns that extend, contexts that reset, injected tokens with NaN, an untrained turn, an empty output."""
    rng = np.random.default_rng(seed)
    out = []
    for item in range(prompts):
        prompt = rng.integers(0, 256, int(rng.integers(7, 14))).tolist()
        for index in range(group):
            turns, context = [], prompt
            for number in range(int(rng.integers(1, 4))):
                ids = rng.integers(0, 256, int(rng.integers(0 if number else 1, 9))).tolist()
                injected = rng.random(len(ids)) < 0.25
                logprobs = np.where(injected, np.nan, -1.0)
                sampling = Sampling(temperature=float(rng.choice([0.0, 0.7, 1.0])))
                turns.append(Turn(context, ids, logprobs, injected, sampling=sampling, train=rng.random() < 0.85))
                context = context + ids + [1, 2] if rng.random() < 0.6 else prompt + ids[-2:]
            out.append(Rollout(f"item{item}", index, turns))
    return out


def make_policy(kind="qwen3", dtype=torch.float64):
    window = {"window": 5} if kind in tiny.WINDOWED else {}
    return Policy(tiny.make(kind, hidden=32, layers=2, dtype=dtype, **window), tokenizer.byte_level())


def loss_of(scored, rollouts, place):
    """A loss over flat log-probs and entropies whose weights go with the token, not with its place."""
    weights = torch.cat([place[r.item_id, r.index] for r in rollouts])
    return (weights * (scored["policy.logp"].exp() + 0.1 * scored["policy.entropy"])).sum()


def gradient(policy):
    found = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in policy.model.parameters()])
    policy.model.zero_grad()
    return found


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_gradient_is_one_for_every_cut_order_and_way(kind):
    policy, rollouts = make_policy(kind), make_rollouts()
    rng = np.random.default_rng(1)
    place = {(r.item_id, r.index): torch.from_numpy(rng.normal(size=r.n_loss_tokens)) for r in rollouts}
    needs = (Need(), Need(what="entropy"))
    loss_of(policy.score(rollouts, needs, grad=True, share_prefix=False), rollouts, place).backward()
    wanted = gradient(policy)
    assert float(wanted.abs().max()) > 1e-3
    for trial, share in enumerate((False, "always", True, "always", False, "always")):
        checkpointing = trial % 4 in (0, 1)
        (policy.model.activation_checkpointing_enable if checkpointing else policy.model.activation_checkpointing_disable)()
        shuffled = [rollouts[i] for i in rng.permutation(len(rollouts))]
        cuts = sorted(rng.choice(np.arange(1, len(rollouts)), size=trial % 4, replace=False))
        for start, end in zip([0, *cuts], [*cuts, len(rollouts)]):
            part = shuffled[start:end]
            micro = (None, 40, 200)[trial % 3]
            scored = policy.score(part, needs, grad=True, share_prefix=share, micro_tokens=micro, chunk=7)
            loss_of(scored, part, place).backward()
        assert float((gradient(policy) - wanted).abs().max() / wanted.abs().max()) < 1e-10, (share, checkpointing, cuts)


def test_scores_equal_the_models_own_logits_at_each_turns_temperature():
    policy, rollouts = make_policy("llama"), make_rollouts(3)
    wanted = []
    with torch.no_grad():
        for turn in (turn for rollout in rollouts for turn in rollout.turns):
            ids = torch.tensor([turn.context_ids + list(turn.output_ids)])
            logits = policy.model(ids).logits[0] / (turn.sampling.temperature or 1.0)
            logp = torch.log_softmax(logits, -1)
            start = len(turn.context_ids)
            wanted += [logp[start + k - 1, token] for k, token in enumerate(turn.output_ids) if turn.loss_mask[k]]
    for share in (False, True):
        for micro in (None, 1, 60):
            found = policy.score(rollouts, share_prefix=share, micro_tokens=micro)["policy.logp"]
            assert not found.requires_grad
            assert torch.allclose(found, torch.stack(wanted), atol=1e-12)
    fixed = policy.score(rollouts, temperature=1.0)["policy.logp"]
    assert float((fixed - torch.stack(wanted)).abs().max()) > 1e-3


def test_nan_in_masked_slots_changes_nothing():
    policy, rollouts = make_policy(), make_rollouts(4)
    clean = [
        dataclasses.replace(r, turns=[dataclasses.replace(t, logprobs=np.nan_to_num(t.logprobs, nan=5.0)) for t in r.turns])
        for r in rollouts
    ]
    assert any(np.isnan(turn.logprobs).any() for r in rollouts for turn in r.turns)

    def run(batch):
        ratio = (policy.score(batch, grad=True)["policy.logp"] - flat(batch, "logprobs")).exp()
        ratio.sum().backward()
        return ratio.detach(), gradient(policy)

    for a, b in zip(run(rollouts), run(clean)):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)


def test_reduces_terms_and_contexts_arrive_in_order():
    policy, rollouts = make_policy(), make_rollouts(5)

    def mean_state(hidden, head, ids, mask):
        assert len(hidden) == len(ids) == int(mask.sum())
        return ids.tolist(), hidden.sum(0)

    def shifted(logits, ids, extras):
        return torch.log_softmax(logits, -1).gather(1, ids[:, None])[:, 0] + extras["shift"]

    def hinted(rollout):
        return dataclasses.replace(rollout, turns=[dataclasses.replace(t, context_ids=[9, *t.context_ids]) for t in rollout.turns])

    needs = (
        Need(),
        Need(what=Reduce(mean_state), name="states"),
        Need(what=Term(shifted), name="shifted"),
        Need(context=hinted, name="hinted"),
    )
    total = int(sum(r.n_loss_tokens for r in rollouts))
    extras = {"shifted": {"shift": torch.arange(total, dtype=torch.float64)}}
    scored = policy.score(rollouts, needs, extras=extras, micro_tokens=50)
    assert [ids for ids, _ in scored["states"]] == [flat([r], "output_ids").tolist() for r in rollouts]
    assert torch.allclose(scored["shifted"] - extras["shifted"]["shift"], scored["policy.logp"])
    assert torch.allclose(scored["hinted"], policy.score([hinted(r) for r in rollouts])["policy.logp"])
    assert scored.why
    with pytest.raises(UserError, match="'cut': its context changed"):
        policy.score(rollouts, [Need(context=lambda r: dataclasses.replace(r, turns=r.turns[:1]), name="cut")])


def test_values_need_a_value_head_and_carry_gradient():
    policy, rollouts = make_policy(), make_rollouts(6)
    with pytest.raises(UserError, match="value_head"):
        policy.score(rollouts, [Need(what="value")])
    policy.value_head = nn.Linear(32, 1, dtype=torch.float64)
    scored = policy.score(rollouts, [Need(what="value")], grad=True)
    assert list(scored) == ["policy.value"]
    assert scored["policy.value"].shape == sequence_index(rollouts).shape
    scored["policy.value"].sum().backward()
    assert policy.value_head.weight.grad is not None


def test_empty_batches_and_rollouts():
    policy = make_policy()
    assert policy.score([])["policy.logp"].shape == (0,)
    empty, full = Rollout("a", 0, [Turn([1, 2], [], np.zeros(0))]), Rollout("b", 0, [Turn([1, 2], [3], np.zeros(1))])
    needs = (Need(), Need(what=Reduce(lambda hidden, *_: len(hidden)), name="n"))
    scored = policy.score([empty, full, empty], needs, micro_tokens=1)
    assert scored["policy.logp"].shape == (1,)
    assert scored["n"] == [0, 1, 0]


def test_a_model_may_score_by_itself_and_others_needs_are_refused():
    class Own(nn.Linear):
        def burnish_score(self, policy, rollouts, needs, grad):
            return {need.key: torch.full((len(rollouts),), float(grad)) for need in needs}

    scored = Policy(Own(1, 1), name="mine").score([1, 2], [Need(model="mine")], grad=True)
    assert scored["mine.logp"].tolist() == [1.0, 1.0]
    with pytest.raises(UserError, match="'reference'"):
        make_policy().score([], [Need(model="reference")])


def test_training_flags_and_grad_mode_are_restored():
    policy = make_policy("gpt2")
    policy.model.train()
    policy.model.transformer.h[0].eval()
    before = [module.training for module in policy.model.modules()]
    policy.score(make_rollouts())
    assert [module.training for module in policy.model.modules()] == before
    assert torch.is_grad_enabled()


def test_too_long_a_rollout_is_refused_by_name():
    policy = Policy(tiny.make("gpt2", max_length=16))
    with pytest.raises(UserError, match=r"item 'long' needs 20 positions; the model has 16"):
        policy.score([Rollout("long", 0, [Turn([1] * 18, [2, 3, 4], np.zeros(3))])])


def test_services():
    policy = make_policy("llama", torch.float32)
    text = "a <|im_end|> b"
    assert policy.decode(policy.encode("abc")) == "abc"
    assert policy.encode([{"role": "user", "content": text}])
    assert policy.tokenizer.eos_token_id in policy.eos_ids
    assert policy.pad_id == policy.tokenizer.pad_token_id
    assert (policy.dtype, policy.max_length) == (torch.float32, 512)
    assert policy.stop_check(chat=True) == []
    bare = tokenizer.byte_level(chat_template=None)
    bare.pad_token = None
    found = Policy(policy.model, bare).stop_check(chat=True)
    assert ["pad token" in line or "chat template" in line for line in found] == [True, True]
    assert all("set tokenizer." in line for line in found)
