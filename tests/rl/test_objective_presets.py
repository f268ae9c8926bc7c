"""Every preset from records to loss and gradient against a slow reference: loops over rollouts and tokens, straight from the formulas.

The batch has turns with injected tokens (whose log-probs are NaN), dropped and invalid rollouts, a rollout without loss tokens, token
rewards and prompt weights, and is off-policy: sampler, update's start and present policy all differ.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.objectives import presets

LIMIT = 8


class Batch:
    """Five prompts of four rollouts. tokens[i]: of rollout i, one dict of log-probs and values for each loss token."""

    def __init__(self, seed: int):
        draw = np.random.default_rng(seed)
        self.groups, self.keep, self.tokens, self.extra = [], [], [], []
        for prompt in range(5):
            rollouts, scores = [], []
            weight = float(draw.uniform(0.5, 1.5))
            for index in range(4):
                turns, tokens = [], []
                for _ in range(int(draw.integers(1, 3))):
                    size = int(draw.integers(1, 6))
                    injected = draw.random(size) < 0.3
                    if (prompt, index) == (1, 2):
                        injected[:] = True
                    old = -np.abs(draw.normal(size=size))
                    names = {"old": 0.0, "now": 0.4, "ref": 0.3, "sampler": 0.1}
                    found = {name: old + scale * draw.normal(size=size) for name, scale in names.items()}
                    found |= {"value": draw.normal(size=size), "old_value": draw.normal(size=size)}
                    turns.append(Turn([1], [7] * size, np.where(injected, np.nan, found["sampler"]), injected))
                    tokens += [{name: float(row[k]) for name, row in found.items()} for k in range(size) if not injected[k]]
                extra = [float(draw.normal()) for _ in tokens] if index == 3 else [0.0] * len(tokens)
                invalid = (prompt, index) == (2, 0)
                rollouts.append(Rollout(f"p{prompt}", index, turns))
                reward = float("nan") if invalid else float(draw.normal())
                scores.append(Score(reward, token_rewards=np.array(extra), prompt_weight=weight, invalid=invalid))
                self.tokens.append(tokens)
                self.extra.append(extra)
            self.groups.append(Group(Item(f"p{prompt}", [1], 4), rollouts, scores))
            # the last prompt is gone altogether, the third has one rollout left
            self.keep.append([prompt != 4 and (prompt, index) not in ((0, 1), (3, 0), (3, 1), (3, 2)) for index in range(4)])
        scores = [score for group in self.groups for score in group.scores]
        self.kept = [i for i in range(20) if self.keep[i // 4][i % 4] and not scores[i].invalid]
        self.reward = [score.reward for score in scores]
        self.weight = [score.prompt_weight for score in scores]

    def flat(self, name: str) -> torch.Tensor:
        return torch.tensor([token[name] for tokens in self.tokens for token in tokens], dtype=torch.float64)


def fast(b: Batch, name: str):
    """(loss, gradient of log-probs, gradient of values) as the learner computes them, in three slices."""
    objective = presets.preset(name).for_run(4, LIMIT)
    measured = {"policy.logp": b.flat("old"), "reference.logp": b.flat("ref"), "critic.value": b.flat("old_value")}
    batch = CreditBatch.from_groups(b.groups, b.keep, measured=measured)
    advantages = objective.advantages(batch)
    table = batch.table.with_prompt_weight(advantages.prompt_weight)
    tokens = {**batch.measured, **advantages.columns}
    now, value = b.flat("now").requires_grad_(), b.flat("value").requires_grad_()
    plan, total = objective.plan(table, tokens), 0.0
    for rollouts in ([5, 0, 19, 6], list(range(7, 19)), [4, 3, 2, 1]):
        part, index = table.pick(rollouts)
        scored = {"policy.logp": now[index], "critic.value": value[index]}
        loss, _ = objective.loss(part, scored, {key: column[index] for key, column in tokens.items()}, plan, index)
        loss.backward()
        total += float(loss.detach())
    return total, now.grad, torch.zeros_like(now) if value.grad is None else value.grad


# --- the slow reference: advantages ---------------------------------------------------------------------------------------------------
def members(b: Batch, i: int) -> list[int]:
    return [j for j in b.kept if j // 4 == i // 4]


def dense(b: Batch, i: int, beta: float) -> list[float]:
    """Token rewards less beta * k1."""
    return [extra - beta * (token["old"] - token["ref"]) for extra, token in zip(b.extra[i], b.tokens[i])]


def returns(b: Batch, beta: float) -> dict[int, float]:
    return {i: b.reward[i] + sum(dense(b, i, beta)) for i in b.kept}


def constant(b: Batch, credit: dict[int, float]) -> dict[int, list[float]]:
    return {i: [credit[i]] * len(b.tokens[i]) for i in b.kept}


def moving(b: Batch, total: dict[int, float]) -> dict[int, float]:
    average, out = 0.0, {}
    for i in b.kept:
        out[i] = total[i] - average
        average = 0.95 * average + 0.05 * total[i]
    return out


def centred(b: Batch, total: dict[int, float]) -> dict[int, float]:
    out = {}
    for i in b.kept:
        group = members(b, i)
        out[i] = total[i] - sum(total[j] for j in group) / len(group)
    return out


def group_std(b: Batch, total: dict[int, float]) -> dict[int, float]:
    out = {}
    for i, value in centred(b, total).items():
        group = members(b, i)
        mean = sum(total[j] for j in group) / len(group)
        variance = sum((total[j] - mean) ** 2 for j in group) / max(len(group) - 1, 1)
        out[i] = value / (math.sqrt(variance) + 1e-6)
    return out


def leave_one_out(b: Batch, total: dict[int, float]) -> dict[int, float]:
    out = {}
    for i in b.kept:
        others = [total[j] for j in members(b, i) if j != i]
        out[i] = total[i] - sum(others) / len(others) if others else 0.0
    return out


def batch_std(b: Batch, total: dict[int, float]) -> dict[int, float]:
    credit = centred(b, total)
    mean = sum(credit.values()) / len(credit)
    std = math.sqrt(sum((value - mean) ** 2 for value in credit.values()) / len(credit))
    return {i: value / std for i, value in credit.items()}


def whiten(b: Batch, credit: dict[int, list[float]]) -> dict[int, list[float]]:
    values = [value for i in b.kept for value in credit[i]]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return {i: [(value - mean) / math.sqrt(variance + 1e-8) for value in credit[i]] for i in b.kept}


def token_rewards(b: Batch, i: int, beta: float) -> list[float]:
    """The reward on the last loss token, token rewards and KL at their own."""
    rewards = dense(b, i, beta)
    if rewards:
        rewards[-1] += b.reward[i]
    return rewards


def to_go(b: Batch, beta: float) -> dict[int, list[float]]:
    return {i: [sum(token_rewards(b, i, beta)[t:]) for t in range(len(b.tokens[i]))] for i in b.kept}


def gae(b: Batch, beta: float, lam: float) -> dict[int, list[float]]:
    out = {}
    for i in b.kept:
        rewards, values = token_rewards(b, i, beta), [token["old_value"] for token in b.tokens[i]] + [0.0]
        steps = [rewards[t] + values[t + 1] - values[t] for t in range(len(rewards))]
        out[i] = [sum(lam ** (s - t) * steps[s] for s in range(t, len(steps))) for t in range(len(steps))]
    return out


def advantages_of(b: Batch, name: str) -> dict[int, list[float]]:
    if name == "ppo":
        return whiten(b, gae(b, 0.05, 0.95))
    if name == "reinforce++":
        return whiten(b, to_go(b, 0.01))
    total = returns(b, 0.05 if name == "rloo" else 0.0)
    if name == "reinforce++-baseline":
        return whiten(b, constant(b, centred(b, total)))
    rule = {
        "reinforce": moving, "rloo": leave_one_out, "dr_grpo": centred, "scalerl": batch_std, "lite_ppo": batch_std
    }.get(name, group_std)  # fmt: skip
    return constant(b, rule(b, total))


# --- the slow reference: loss ---------------------------------------------------------------------------------------------------------
def weight_of(b: Batch, name: str, i: int) -> float:
    n = len(b.kept)
    if name in ("reinforce", "rloo"):
        weight = 1 / n
    elif name in ("grpo", "gspo", "gmpo"):
        weight = 1 / (n * len(b.tokens[i]))
    elif name == "dr_grpo":
        weight = 1 / (n * LIMIT)
    elif name in ("dapo", "scalerl"):
        prompts = {j // 4 for j in b.kept}
        weight = 1 / (len(prompts) * sum(len(b.tokens[j]) for j in members(b, i)))
    else:
        weight = 1 / sum(len(b.tokens[j]) for j in b.kept)
    return weight * b.weight[i]


def surrogate(b: Batch, name: str, i: int, t: int, a: float, now: list[torch.Tensor]) -> torch.Tensor:
    token = b.tokens[i][t]
    if name in ("reinforce", "rloo"):
        return a * now[t]
    if name in ("cispo", "scalerl"):
        rho = math.exp(now[t].item() - token["sampler" if name == "scalerl" else "old"])
        return min(max(rho, 0.0), 5.0) * a * now[t]
    ratios = [now[s] - b.tokens[i][s]["old"] for s in range(len(now))]
    if name == "gmpo":
        total = torch.zeros((), dtype=torch.float64)
        for d in ratios:
            clipped = d if -0.4 <= d.item() <= 0.4 else torch.tensor(math.copysign(0.4, d.item()), dtype=torch.float64)
            pick = min if a > 0 else max
            total = total + pick(d, clipped, key=torch.Tensor.item)
        return a * torch.exp(total / len(now))
    rho = torch.exp(sum(ratios) / len(now)) if name == "gspo" else torch.exp(ratios[t])
    low, high = {"gspo": (3e-4, 4e-4), "dapo": (0.2, 0.28)}.get(name, (0.2, 0.2))
    bounded = rho if 1 - low <= rho.item() <= 1 + high else torch.tensor(1 - low if rho.item() < 1 else 1 + high, dtype=torch.float64)
    return min(a * rho, a * bounded, key=torch.Tensor.item)


def kl(name: str, d: torch.Tensor) -> torch.Tensor:
    if name == "grpo":
        return 0.04 * (torch.exp(-d) - 1 + d)
    return 0.01 * d * d / 2 if name == "reinforce++-baseline" else 0 * d


def value_term(token: dict[str, float], value: torch.Tensor, target: float) -> torch.Tensor:
    moved = value.item() - token["old_value"]
    bounded = value if abs(moved) <= 0.2 else torch.tensor(token["old_value"] + math.copysign(0.2, moved), dtype=torch.float64)
    return 0.5 * max((value - target) ** 2, (bounded - target) ** 2, key=torch.Tensor.item)


def slow(b: Batch, name: str):
    now = [[torch.tensor(token["now"], dtype=torch.float64, requires_grad=True) for token in tokens] for tokens in b.tokens]
    value = [[torch.tensor(token["value"], dtype=torch.float64, requires_grad=True) for token in tokens] for tokens in b.tokens]
    advantages = advantages_of(b, name)
    plain = gae(b, 0.05, 0.95) if name == "ppo" else {}
    loss = torch.zeros((), dtype=torch.float64)
    for i in b.kept:
        for t, token in enumerate(b.tokens[i]):
            term = -surrogate(b, name, i, t, advantages[i][t], now[i]) + kl(name, now[i][t] - token["ref"])
            if name == "ppo":
                term = term + value_term(token, value[i][t], plain[i][t] + token["old_value"])
            loss = loss + weight_of(b, name, i) * term
    loss.backward()

    def gradient(rows):
        return torch.stack([torch.zeros((), dtype=torch.float64) if x.grad is None else x.grad for row in rows for x in row])

    return float(loss.detach()), gradient(now), gradient(value)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", presets.names())
def test_preset_equals_the_slow_loops(name, seed):
    b = Batch(seed)
    loss, grad, value_grad = fast(b, name)
    wanted, gradient, value_gradient = slow(b, name)
    assert loss == pytest.approx(wanted, abs=1e-10)
    torch.testing.assert_close(grad, gradient, rtol=0, atol=1e-10)
    torch.testing.assert_close(value_grad, value_gradient, rtol=0, atol=1e-10)
    assert float(gradient.abs().max()) > 1e-4
    assert (float(value_gradient.abs().max()) > 1e-4) == (name == "ppo")
