"""What the engine must know of a model before it serves it, and the refusals: by name, never wrongly served."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import torch

from burnish.runs.errors import UserError

# Attention that adds a bias by distance, or positions the engine cannot pass: no `position_ids` reach it.
_OTHER_POSITIONS = ("bloom", "mpt", "t5", "xlnet", "transfo-xl")
_OTHER_STATE = ("mamba", "rwkv", "jamba", "bamba", "recurrent", "xlstm", "zamba", "lfm2", "retnet", "hyena")
_LAYER_TYPES = ("full_attention", "sliding_attention")


@dataclasses.dataclass(frozen=True)
class Facts:
    """name: the model's class. layers: how many attend, with `heads` query heads each. parameters: how many numbers the model has.
     windows[layer]: sliding-window length in tokens or None.
    max_length: positions there are. vocab: logits' width (ids must be below it). keeps_logits: its forward takes `logits_to_keep`.
    """

    name: str
    layers: int
    heads: int
    parameters: int
    windows: tuple[int | None, ...]
    max_length: int
    vocab: int
    dtype: torch.dtype
    device: torch.device
    keeps_logits: bool
    takes_positions: bool
    own_cache: bool


def unwrapped(model: Any) -> Any:
    """The causal LM inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def facts(model: Any, max_length: int | None = None) -> Facts:
    """Read a model's facts from its config. Raises UserError, naming the model, where the engine cannot serve it."""
    inner = unwrapped(model)
    name = type(inner).__name__
    weight = next(iter(model.parameters()), None)
    if weight is None:
        raise UserError(f"{name} has no parameters; the engine serves causal language models")
    own_cache = hasattr(inner, "make_cache")
    config: Any = getattr(inner, "config", None)
    if config is None and not own_cache:
        raise UserError(f"{name} has no config; the engine serves Hugging Face causal language models, or models with make_cache()")
    if not own_cache:
        _check_config(name, config)
        if not hasattr(inner, "generate"):
            raise UserError(f"{name} is no causal language model (load it with AutoModelForCausalLM)")
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limits = [getattr(text, field, None) for field in ("max_position_embeddings", "n_positions", "max_seq_len", "max_length")]
    known = [int(limit) for limit in limits[:3] if limit] or [int(limits[3] or 0) or 2**31 - 1]
    if max_length is not None and max_length > known[0]:
        raise UserError(f"max_length={max_length} is more than {name}'s context of {known[0]} tokens")
    parameters = inspect.signature(inner.forward).parameters
    return Facts(
        name=name,
        layers=0 if own_cache else int(text.num_hidden_layers),
        heads=0 if own_cache else int(text.num_attention_heads),
        parameters=sum(p.numel() for p in model.parameters()),
        windows=() if own_cache else _windows(text),
        max_length=min(known[0], max_length or known[0]),
        vocab=int(getattr(text, "vocab_size", 0)) or 2**31 - 1,
        dtype=weight.dtype,
        device=weight.device,
        keeps_logits="logits_to_keep" in parameters,
        takes_positions="position_ids" in parameters,
        own_cache=own_cache,
    )


def _check_config(name: str, config: Any) -> None:
    kind = str(getattr(config, "model_type", ""))
    text = config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(f"{name} ({kind}) is an encoder-decoder model; the engine serves decoder-only models")
    if text is not config:
        raise UserError(f"{name} ({kind}) is a multimodal model; the engine serves text-only causal models")
    relative = getattr(config, "position_embedding_type", "absolute") not in ("absolute", None)
    if kind in _OTHER_POSITIONS or getattr(config, "alibi", False) or relative:
        raise UserError(f"{name} ({kind}) encodes positions in a way the engine does not read (ALiBi or relative); use another model type")
    if any(part in kind for part in _OTHER_STATE) or getattr(config, "ssm_cfg", None):
        raise UserError(f"{name} ({kind}) keeps a recurrent state; the engine serves attention models, or models that bring make_cache()")
    others = sorted(set(getattr(config, "layer_types", None) or ()) - set(_LAYER_TYPES))
    if others:
        raise UserError(f"{name} ({kind}) has layers of type {', '.join(others)}; the engine serves {' and '.join(_LAYER_TYPES)}")
    if getattr(config, "add_cross_attention", False):
        raise UserError(f"{name} ({kind}) has cross-attention; the engine serves decoder-only models")
    if not getattr(config, "num_hidden_layers", None):
        raise UserError(f"{name} ({kind}): its config names no num_hidden_layers; the engine cannot make a cache for it")


def _windows(config: Any) -> tuple[int | None, ...]:
    window = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    layers = int(config.num_hidden_layers)
    types = getattr(config, "layer_types", None)
    if not types:
        return (window,) * layers
    return tuple(window if kind == "sliding_attention" else None for kind in types[:layers])
