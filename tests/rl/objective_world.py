"""A random ragged batch and one optimiser step on it, for the tests of objectives."""

from __future__ import annotations

import dataclasses

import torch

from burnish.rl.credit.batch import CreditBatch
from burnish.rl.objectives.objective import Objective
from burnish.rl.objectives.tokens import TokenTable


@dataclasses.dataclass
class World:
    """A random ragged batch: 5 prompts, groups of 4, some rollouts dropped or empty."""

    table: TokenTable
    reward: torch.Tensor
    new: torch.Tensor
    old: torch.Tensor
    ref: torch.Tensor
    sampler: torch.Tensor
    value: torch.Tensor
    old_value: torch.Tensor


def world(seed=0, dropped=(3, 8, 9, 10, 11), near=0.5, empty=True) -> World:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (20,), generator=generator)
    if empty:
        lengths[6] = 0
    table = TokenTable.from_lengths(
        lengths,
        torch.arange(20) // 4,
        kept=[row not in dropped for row in range(20)],
        prompt_weight=torch.rand(5, generator=generator, dtype=torch.float64) + 0.5,
    )

    def normal(scale):
        return scale * torch.randn(table.n_tokens, generator=generator, dtype=torch.float64)

    old = -normal(1.0).abs()
    reward = torch.randn(20, generator=generator, dtype=torch.float64)
    values = [old + normal(near), old, old + normal(0.3), old + normal(0.1), normal(1.0)]
    return World(table, reward, *values, values[-1] + normal(0.3))


def parts_of(w: World, objective: Objective, with_old=True):
    measured = {"policy.logp": w.old, "reference.logp": w.ref, "sample_logp": w.sampler, "critic.value": w.old_value}
    batch = CreditBatch.make(w.table, w.reward, measured=measured)
    advantages = objective.advantages(batch)
    tokens = {**advantages.columns, "sample_logp": w.sampler, "reference.logp": w.ref, "critic.value": w.old_value}
    return tokens | ({"policy.logp": w.old} if with_old else {})


def step(w: World, objective: Objective, cut=None, with_old=True):
    """(loss, gradient, metrics). The gradient is that of the log-probs, and of the critic's values behind it where there is a critic."""
    objective = objective.for_run(group_size=4, max_new_tokens=8)
    tokens = parts_of(w, objective, with_old)
    logp, value = w.new.clone().requires_grad_(), w.value.clone().requires_grad_()
    plan, seen, total = objective.plan(w.table, tokens), [], 0.0
    for rollouts in cut or [range(20)]:
        part, index = w.table.pick(list(rollouts))
        scored = {"policy.logp": logp[index], "policy.entropy": -logp[index], "critic.value": value[index]}
        loss, found = objective.loss(part, scored, {key: value[index] for key, value in tokens.items()}, plan, index)
        loss.backward()
        total += float(loss.detach())
        seen.append(found)
    grad = logp.grad if value.grad is None else torch.cat([logp.grad, value.grad])
    return total, grad, objective.metrics(w.table, seen, plan)
