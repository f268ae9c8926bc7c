"""FLOPs of a causal language model, counted from its weights: the currency in which arms of a comparison are matched.

A multiply-add counts as two. Counted are the matrix products with weights and the attention's products with keys and values; norms,
activations and softmax are left out (a few per cent for small models, less for large ones).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def matmul_parameters(model: nn.Module) -> int:
    """Weights that multiply every token: all matrices except embedding tables, the head counted once even where it is tied.

    Of a mixture of experts' stacked matrices the share counts that a token is sent to.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    seen: dict[int, int] = {}
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Embedding) or not isinstance(weight, torch.Tensor) or weight.dim() != 2 or id(weight) in tables:
            continue
        seen[id(weight)] = weight.numel()
    find_head: Any = getattr(model, "get_output_embeddings", None)
    head = find_head() if find_head is not None else None
    tied = head.weight.numel() if head is not None and id(head.weight) in tables else 0
    return sum(seen.values()) + tied + _expert_parameters(model)


def _expert_parameters(model: Any) -> int:
    """Of the matrices stacked by expert (three dimensions), what one token uses."""
    config = model.config.get_text_config() if hasattr(model, "config") else None
    used, experts = (getattr(config, name, None) for name in ("num_experts_per_tok", "num_experts"))
    experts = experts or getattr(config, "num_local_experts", None)
    if not used or not experts:
        return 0
    stacked = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 3 and parameter.shape[0] == experts)
    return stacked * used // experts


def per_token(model: Any) -> tuple[float, float]:
    """FLOPs of one token's forward pass, and of each key that it attends to. Walks all modules: ask once for a model."""
    config = model.config.get_text_config() if hasattr(model, "config") else None
    width = layers = 0
    if config is not None:
        layers = config.num_hidden_layers
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return 2.0 * matmul_parameters(model), 4.0 * layers * width


def forward_flops(model: Any, tokens: int, mean_keys: float = 0.0) -> float:
    """FLOPs of one forward pass over `tokens` tokens of which each attends to `mean_keys` keys on average."""
    token, key = per_token(model)
    return tokens * (token + key * mean_keys)


def training_flops(model: Any, tokens: int, mean_keys: float = 0.0) -> float:
    """FLOPs of forward and backward: three forward passes' worth."""
    return 3.0 * forward_flops(model, tokens, mean_keys)
