"""How far one step moved the policy: a few rollouts, scored again after the last update. Costs one or two hundredths of a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from burnish.models.needs import Need
from burnish.models.policy import Policy
from burnish.records import Rollout
from burnish.rl.objectives.kl import estimate

FIRST, EVERY, SHARE = 10, 5, 16
"""The first so many steps are probed, then every so-manieth; one rollout in so many is scored again (at least four)."""

LOGP = Need(what="logp")
Before = list[tuple[Rollout, Tensor]]
"""Rollouts and the learner's log-probs of their loss tokens (float64) before the step."""


def picked(rollouts: Sequence[Rollout], logp: Tensor, step: int) -> Before:
    """Evenly spread rollouts with their share of `logp` (flat over all rollouts); [] in steps that are not probed."""
    if step > FIRST and step % EVERY:
        return []
    sizes = [rollout.n_loss_tokens for rollout in rollouts]
    pairs = [(rollout, part) for rollout, part in zip(rollouts, torch.split(logp, sizes)) if len(part)]
    return pairs[:: max(1, len(pairs) // max(4, len(pairs) // SHARE))]


def moved(policy: Policy, before: Before, step: int, share_prefix: bool = True) -> dict[str, float]:
    """update/kl: KL(before || after) of the step in nats per token, estimator k3 on the samples. {} where nothing was picked."""
    if not before:
        return {}
    after = policy.score([rollout for rollout, _ in before], [LOGP], grad=False, share_prefix=share_prefix)[LOGP.key]
    difference = torch.cat([part for _, part in before]) - after.cpu().double()
    return {"update/kl": float(estimate("k3", difference).mean())}
