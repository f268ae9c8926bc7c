"""A head in float32 under a model in half precision: ScaleRL's (arXiv 2510.13786), on the sampler and the trainer alike.

The layer keeps its weight, in the model's dtype, under its name, and tied to the embedding where it was; only its product is computed in
float32. Both engine and trainer call the model's own output layer, so both get it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from burnish.runs.errors import UserError


class WideLinear(nn.Linear):
    """A linear layer whose product is computed in float32 at least, whatever the weight's dtype. [..., d] -> [..., V]."""

    def forward(self, input: Tensor) -> Tensor:
        """Logits in float32 (float64 for a float64 layer)."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(input.device.type, enabled=False):
            return nn.functional.linear(input.to(wide), self.weight.to(wide), None if self.bias is None else self.bias.to(wide))


def widen_head(model: Any) -> None:
    """Makes the model's output layer a WideLinear, in place. Raises UserError where it is no plain linear layer."""
    layer = model.get_output_embeddings()
    if type(layer) not in (nn.Linear, WideLinear):
        raise UserError(
            f"model.head_dtype float32: the output layer of {type(model).__name__} is a {type(layer).__name__}, not a plain linear layer; "
            "leave it out"
        )
    layer.__class__ = WideLinear
