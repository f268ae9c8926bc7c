"""The critic's own loss."""

from __future__ import annotations

import torch
from torch import Tensor


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None = 0.2) -> Tensor:
    """[K] -> [K]: 0.5 max((V - R)^2, (clip(V, V_old +- clip) - R)^2), to be weighted like the policy's tokens.

    value: V, with gradient. old: V at the update's start. target: R = A + V, `Advantages.value_target`. clip: None for the plain square.
    """
    plain = (value - target).square()
    if clip is None:
        return 0.5 * plain
    bounded = old + (value - old).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (bounded - target).square())
