"""A float64 model that is float64 throughout; and weights too coarse for their learning rate.

Many norms step down to float32 inside, whatever the model's dtype. In a float64 model that rounds each value, and sums the
gradient of a norm's weight over the tokens in float32, so that results depend on how a batch was cut. Models in other dtypes
are left exactly as they are.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _StayDouble(TorchFunctionMode):
    """Casts of float64 tensors to float32 do nothing."""

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and first.dtype == torch.float64:
            if func is torch.Tensor.float:
                return first
            if func is torch.Tensor.to and any(value is torch.float32 for value in (*args[1:], *kwargs.values())):
                return first
        return func(*args, **kwargs)


def _forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with _StayDouble():
        return type(self).forward(self, *args, **kwargs)


def keep_double(model: nn.Module) -> None:
    """Make the norms of a float64 model compute in float64 (in place, once; torch's own norms do so anyway).

    The change is on the modules themselves, so the sampling engine, the training forward and the model's own forward agree.
    """
    weight = next(iter(model.parameters()), None)
    if weight is None or weight.dtype != torch.float64:
        return
    for module in model.modules():
        own = type(module).__name__.endswith("Norm") and not type(module).__module__.startswith("torch.")
        if own and not any(True for _ in module.children()) and "forward" not in vars(module):
            module.forward = types.MethodType(_forward, module)


def unmoved_share(parameters: Iterable[nn.Parameter], step: float) -> float:
    """The share of the weights that adding or subtracting `step` leaves as they are, rounded to their own dtype; 0 for no weights."""
    still, total = 0, 0
    with torch.no_grad():
        for weight in parameters:
            still += int(((weight + step == weight) & (weight - step == weight)).sum())
            total += weight.numel()
    return still / total if total else 0.0
