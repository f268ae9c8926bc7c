"""Eval mode for a forward pass, and gradient checkpointing inside it.

transformers' layers checkpoint only in training mode, which would switch dropout on; here they do it in eval mode as well.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from burnish.models.attention import implementation
from burnish.runs.errors import UserError


@contextlib.contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Within: every module in eval mode; afterwards each as it was."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def switch_checkpointing(model: Any, on: bool) -> None:
    """Switches gradient checkpointing on or off. Raises UserError where the model cannot do it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers renames these two; the old names hold for every 5.x
        try:
            if on:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            else:
                model.gradient_checkpointing_disable()
        except (AttributeError, ValueError) as error:
            raise UserError(f"gradient_checkpointing: {type(model).__name__} cannot do it ({error}); set it to false") from None


@contextlib.contextmanager
def checkpointing(model: nn.Module, configs: list[Any], name: str | None) -> Iterator[None]:
    """Within: layers with gradient checkpointing enabled do it, though transformers would only in training mode.

    What the backward pass computes again runs as the first time did: eval mode, same attention.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and getattr(m, "gradient_checkpointing", False)]
    layers = layers if torch.is_grad_enabled() else []
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = _checkpointed(layer, layer.forward, configs, name)
    try:
        yield
    finally:
        for layer, old in zip(layers, before):
            if old is None:
                del layer.forward
            else:
                layer.forward = old


def _checkpointed(layer: nn.Module, forward: Callable[..., Any], configs: list[Any], name: str | None) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        with evaluation(layer), implementation(configs, name):
            return forward(*args, **kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
