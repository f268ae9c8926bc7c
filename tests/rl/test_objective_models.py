"""Objectives with real models: the KL over the vocabulary against whole logits, and a critic beside the policy in the learner."""

from __future__ import annotations

import copy

import pytest
import torch
from test_learner_gradient import make_batch, make_policy

from burnish.models.policy import Policy
from burnish.recipes.policy import critic_copy, frozen_copy
from burnish.rl.learner import Learner
from burnish.rl.measure import Measurer
from burnish.rl.objectives import presets
from burnish.rl.objectives.kl import FULL, HIDDEN


def gradients(policy: Policy, models: dict[str, Policy], objective, batch, **settings) -> tuple[dict[str, torch.Tensor], dict]:
    """(gradient by model and parameter that the optimisers would see, metrics)."""
    seen: dict[str, torch.Tensor] = {}

    def mover(names=None):
        for name, model in models.items():
            modules = {"model": model.model, "head": model.value_head}
            for place, module in modules.items():
                for key, p in module.named_parameters() if module is not None else ():
                    if p.grad is not None:
                        seen[f"{name}.{place}.{key}"] = p.grad.clone()
                        p.grad = None
        return {}

    learner = Learner(policy, objective.for_run(4, 9), Measurer(models), **settings)
    return seen, learner.update(batch, 1, mover)


def moved_reference(policy: Policy) -> Policy:
    reference = frozen_copy(policy)
    draw = torch.Generator().manual_seed(3)
    for parameter in reference.model.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return reference


def whole_kl(policy: Policy, reference: Policy, batch) -> torch.Tensor:
    """sum_v p (log p - log p_ref) at every kept loss token, mean over tokens, from whole logits."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for group, flags in zip(batch.groups, batch.keep):
        for rollout, kept in zip(group.rollouts, flags):
            turn = rollout.turns[0]
            heat = turn.sampling.temperature or 1.0
            ids = torch.tensor([turn.context_ids + turn.output_ids])
            first = len(turn.context_ids) - 1
            if not kept:
                continue
            with torch.no_grad():
                other = (reference.model(ids).logits[0, first:-1] / heat).log_softmax(-1)
            own = (policy.model(ids).logits[0, first:-1] / heat).log_softmax(-1)
            total, count = total + (own.exp() * (own - other)).sum(), count + len(turn.output_ids)
    return total / count


@pytest.mark.parametrize(("kind", "heat", "tolerance"), [("qwen3", 1.0, 1e-12), ("gemma2", 0.7, 1e-8)])  # gemma2's own softmax is float32
def test_full_kl_in_the_loss_is_that_of_whole_logits(kind, heat, tolerance):
    torch.set_num_threads(1)
    policy = make_policy(kind)
    reference, batch = moved_reference(policy), make_batch(policy)
    for group in batch.groups:
        for rollout in group.rollouts:
            rollout.turns[0].sampling = type(rollout.turns[0].sampling)(temperature=heat)
    base = presets.preset("dapo").with_(weights="token_mean", entropy={"measure": False})
    models = {"policy": policy, "reference": reference}
    objective = base.with_(kl={"beta": 1.0, "estimator": "full"})
    with_kl, metrics = gradients(policy, models, objective, batch, micro_tokens=40)
    without, _ = gradients(policy, models, base, batch)
    wanted = whole_kl(policy, reference, batch)
    wanted.backward()
    assert metrics["kl"] == pytest.approx(float(wanted.detach()), abs=tolerance)
    for name, p in policy.model.named_parameters():
        key = f"policy.model.{name}"
        torch.testing.assert_close(with_kl[key] - without[key], p.grad, rtol=0, atol=tolerance)
    assert max(float(p.grad.abs().max()) for p in policy.model.parameters()) > 1e-5
    assert not any(key.startswith("reference") for key in with_kl)


def test_full_kl_in_the_reward_is_measured_before_credit():
    torch.set_num_threads(1)
    policy = make_policy("llama")
    reference, batch = moved_reference(policy), make_batch(policy)
    objective = presets.preset("rloo").with_(kl={"estimator": "full", "beta": 0.5})
    assert FULL in objective.needs()
    assert FULL not in objective.grad_needs()
    rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
    measurer = Measurer({"policy": policy, "reference": reference}, micro_tokens=30)
    found = measurer.measure(rollouts, [FULL])[FULL.key]
    assert bool((found > 0).all())
    assert float(measurer.measure(rollouts, [HIDDEN])[HIDDEN.key][0].abs().max()) > 0
    _, metrics = gradients(policy, measurer.models, objective, batch)
    assert metrics["kl"] > 0


def test_critic_and_policy_have_one_gradient_for_every_cut():
    """Epochs of one step: the same gradients of both models whatever the micro-batches; the policy's loss does not reach the critic."""
    torch.set_num_threads(1)
    policy = make_policy("qwen3")
    batch = make_batch(policy)
    critic = critic_copy(policy)
    draw = torch.Generator().manual_seed(1)
    critic.value_head.linear.weight.data.normal_(generator=draw)
    models = {"policy": policy, "reference": moved_reference(policy), "critic": critic}
    plain, metrics = gradients(policy, models, presets.preset("ppo"), batch, micro_tokens=10**9)
    assert {key.split(".")[0] for key in plain} == {"policy", "critic"}
    assert metrics["critic/loss"] > 0
    for micro_tokens in (45, 20, 1):
        found, other = gradients(policy, models, presets.preset("ppo"), batch, micro_tokens=micro_tokens)
        assert found.keys() == plain.keys()
        assert other["critic/loss"] == pytest.approx(metrics["critic/loss"], abs=1e-12)
        assert max(float((found[key] - plain[key]).abs().max()) for key in plain) < 1e-10
    again = copy.deepcopy(batch)
    for group in again.groups:
        for score in group.scores:
            score.reward *= 2
    doubled, _ = gradients(policy, models, presets.preset("ppo"), again, micro_tokens=45)
    assert any(not torch.equal(doubled[key], plain[key]) for key in plain if key.startswith("critic"))
