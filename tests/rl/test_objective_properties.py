"""Identities of the catalogue, and invariance to cut and order. The slow loops are in test_objective_presets.py."""

import dataclasses
import itertools
import math

import pytest
import torch
from objective_world import World, step, world

from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.chain import make_chain
from burnish.rl.objectives import presets
from burnish.rl.objectives.kl import full
from burnish.rl.objectives.tokens import TokenTable

# --- invariance -----------------------------------------------------------------------------------------------------------------------
ALL = presets.names()
CUTS = [[[row] for row in range(20)], [list(range(19, -1, -1))], [[4, 19, 0], list(range(5, 19)), [3, 2, 1]]]


@pytest.mark.parametrize("name", [*ALL, "clip_cov", "kl_cov", "corrected"])
def test_any_cut_and_order_gives_the_same_step(name):
    w = world(1)
    if name in ("clip_cov", "kl_cov"):
        objective = presets.preset("dapo").with_(surrogate={"name": name, "share": 0.3, **({"lower": 0.0} if name == "clip_cov" else {})})
    elif name == "corrected":
        correction = [{"name": "truncate", "level": "sequence"}, {"name": "drop_stale_negative", "delta": 0.1}]
        objective = presets.preset("grpo").with_(correction=correction, entropy={"eta": 0.1})
    else:
        objective = presets.preset(name)
    loss, grad, metrics = step(w, objective)
    assert grad.abs().sum() > 0
    for cut in CUTS:
        other, other_grad, other_metrics = step(w, objective.with_(name=objective.name), cut)
        assert other == pytest.approx(loss, abs=1e-12)
        torch.testing.assert_close(other_grad, grad, rtol=0, atol=1e-12)
        assert other_metrics == pytest.approx(metrics, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_every_cut_between_rollouts_gives_the_same_step(name):
    """All 2^(n-1) cuts of n = 6 rollouts, every other one with the rollouts in an order of its own."""
    w = small()
    loss, grad, metrics = step(w, presets.preset(name), [range(6)])
    for number in range(2**5):
        order = torch.randperm(6, generator=torch.Generator().manual_seed(number)).tolist() if number % 2 else list(range(6))
        ends = [place + 1 for place in range(5) if number >> place & 1] + [6]
        cut = [order[start:end] for start, end in itertools.pairwise([0, *ends])]
        other, other_grad, other_metrics = step(w, presets.preset(name), cut)
        assert other == pytest.approx(loss, abs=1e-12)
        torch.testing.assert_close(other_grad, grad, rtol=0, atol=1e-12)
        assert other_metrics == pytest.approx(metrics, abs=1e-12)


def small() -> World:
    """Six rollouts of two prompts: one dropped, one empty."""
    generator = torch.Generator().manual_seed(11)
    table = TokenTable.from_lengths([3, 1, 4, 0, 5, 2], [0, 0, 0, 1, 1, 1], kept=[True, True, False, True, True, True])
    old = -torch.rand(table.n_tokens, generator=generator, dtype=torch.float64) - 0.1

    def near(x, scale):
        return x + scale * torch.randn(len(x), generator=generator, dtype=torch.float64)

    reward = torch.tensor([1.0, 0, 9, 0, 1, 0.2], dtype=torch.float64)
    return World(table, reward, near(old, 0.3), old, near(old, 0.2), near(old, 0.1), near(old, 1.0), near(old, 1.0))


@pytest.mark.parametrize("name", ALL)
def test_what_a_dropped_rollout_holds_changes_nothing(name):
    w = world(2)
    dropped = ~w.table.kept_tokens
    poisoned = dataclasses.replace(w, reward=torch.where(w.table.kept, w.reward, torch.nan))
    for field in ("new", "old", "ref", "sampler", "value", "old_value"):
        poisoned = dataclasses.replace(poisoned, **{field: getattr(w, field).masked_fill(dropped, torch.nan)})
    loss, grad, metrics = step(w, presets.preset(name))
    other, other_grad, other_metrics = step(poisoned, presets.preset(name))
    assert other == loss
    assert torch.equal(grad, other_grad)
    assert metrics == other_metrics
    assert bool((grad.view(-1, len(dropped))[:, dropped] == 0).all())


@pytest.mark.parametrize("name", ALL)
def test_nothing_kept_keeps_the_graph_alive(name):
    w = world(0, dropped=range(20))
    loss, grad, metrics = step(w, presets.preset(name))
    assert loss == 0
    assert bool((grad == 0).all())
    assert metrics["loss"] == 0


# --- identities -----------------------------------------------------------------------------------------------------------------------
def test_on_policy_surrogates_agree():
    w = world(3, near=0.0)
    base = presets.preset("grpo").with_(beta=0)
    gradients = []
    for with_old in (True, False):
        gradients.append(step(w, base, with_old=with_old)[1])
    for knobs in (
        {"surrogate": "linear"},
        {"surrogate": "cispo"},
        {"ratio": "none", "surrogate": "log"},
        {"ratio": "sequence"},
        {"ratio": "sequence_token"},
        {"ratio": "geometric", "surrogate": "gmpo"},
        {"surrogate": {"name": "soft_gate", "tau_negative": 1.0}},
    ):
        gradients.append(step(w, base.with_(**knobs))[1])
    for grad in gradients[1:]:
        torch.testing.assert_close(grad, gradients[0], rtol=0, atol=1e-12)


def chain(spec, w, reward=None, **more):
    return make_chain(spec)(CreditBatch.make(w.table, w.reward if reward is None else reward, **more)).tokens


def test_credit_identities():
    w = world(4, dropped=())
    centred = chain("group_mean", w)
    torch.testing.assert_close(chain("leave_one_out", w), 4 / 3 * centred, rtol=0, atol=1e-12)
    standard = ["group_mean", {"name": "group_std", "eps": 0.0}]
    torch.testing.assert_close(chain(standard, w, 3 * w.reward - 7), chain(standard, w), rtol=0, atol=1e-12)
    torch.testing.assert_close(chain("group_mean >> to_go", w), centred, rtol=0, atol=1e-12)
    torch.testing.assert_close(chain("group_mean >> constant", w), centred, rtol=0, atol=0)
    equal = torch.full_like(w.reward, 0.1)
    assert chain("group_mean >> group_std", w, equal).abs().max() < 1e-9


def test_token_rewards_enter_at_their_place():
    table = TokenTable.from_lengths([3, 2], [0, 0])
    dense = torch.tensor([0.0, 1.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    batch = CreditBatch.make(table, torch.tensor([2.0, 0.0]), token_rewards=dense)
    assert make_chain(["none", {"name": "to_go", "gamma": 0.5}])(batch).tokens.tolist() == [1.0, 2.0, 2.0, 0.5, 0.0]
    assert make_chain("none")(batch).tokens.tolist() == [3.0, 3.0, 3.0, 0.5, 0.5]
    assert make_chain("group_mean")(batch).tokens.tolist() == [1.25, 1.25, 1.25, -1.25, -1.25]
    assert make_chain("group_mean >> to_go")(batch).tokens.tolist() == [1.25, 1.25, 0.25, -1.25, -1.75]


def test_agents_of_a_prompt_have_statistics_of_their_own():
    table = TokenTable.from_lengths([1, 1, 1, 1], [0, 0, 0, 0])
    batch = CreditBatch.make(table, torch.tensor([1.0, 10.0, 3.0, 30.0]), agent=["solver", "critic"] * 2)
    assert make_chain("group_mean")(batch).tokens.tolist() == [-1.0, -10.0, 1.0, 10.0]


def test_weights_sum_to_one_and_prompt_weights_multiply():
    w = world(5)
    plain_table = w.table.with_prompt_weight(torch.ones(5))
    for name in ("token_mean", "prompt_mean"):
        weights = presets.preset("grpo").with_(weights=name).weights
        assert float(weights(plain_table).sum()) == pytest.approx(1.0)
        ratio = weights(w.table) / weights(plain_table).clamp(min=1e-300)
        kept = w.table.kept_tokens
        torch.testing.assert_close(ratio[kept], w.table.prompt_weight[w.table.prompt[w.table.sequence]][kept])


def test_full_kl_is_what_k1_estimates():
    torch.manual_seed(0)
    logits, reference = torch.randn(2, 3, 5, dtype=torch.float64)
    logits.requires_grad_()
    policy = torch.distributions.Categorical(logits=logits)
    wanted = torch.distributions.kl_divergence(policy, torch.distributions.Categorical(logits=reference))
    found = full(logits, reference)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), logits)[0], torch.autograd.grad(wanted.sum(), logits)[0])


def test_metrics_of_a_hand_made_step():
    table = TokenTable.from_lengths([2, 2], [0, 0])
    old = torch.zeros(4, dtype=torch.float64)
    new = torch.tensor([math.log(1.5), 0.0, math.log(0.5), 0.0], dtype=torch.float64)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    objective = presets.preset("dapo").with_(weights="token_mean")
    tokens = {"advantage": advantage, "policy.logp": old, "sample_logp": old}
    plan = objective.plan(table, tokens)
    loss, seen = objective.loss(table, {"policy.logp": new, "policy.entropy": torch.ones(4)}, tokens, plan, torch.arange(4))
    found = objective.metrics(table, [seen], plan)
    assert float(loss) == pytest.approx(-(1.28 + 1 - 0.8 - 1) / 4)
    assert found["loss"] == pytest.approx(float(loss))
    assert (found["clip_ratio/low_mean"], found["clip_ratio/high_mean"], found["clip_ratio/region_mean"]) == (0.25, 0.25, 0.5)
    assert (found["ratio/min"], found["ratio/max"], found["ratio/mean"]) == pytest.approx((0.5, 1.5, 1.0))
    assert found["ratio/ess"] == pytest.approx(16 / (4 * 4.5))
    assert found["objective/surrogate"] == pytest.approx((1.5 + 1 - 0.5 - 1) / 4)
    assert found["policy_kl/k1"] == pytest.approx(-(math.log(1.5) + math.log(0.5)) / 4)
    assert found["entropy"] == 1.0
