"""Tiny models of the usual types, made on the spot from a seed: for tests, first runs and small experiments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

from burnish.models import tokenizer as tokenizers
from burnish.runs.errors import UserError, did_you_mean


def make(
    kind: str,
    tokenizer: Any = None,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    vocab: int | None = None,
    max_length: int = 512,
    window: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **overrides: Any,
) -> PreTrainedModel:
    """A model of `kind` with random weights, in eval mode, without dropout.

    tokenizer: gives vocabulary size and special ids (several eos ids where it has end-of-turn tokens); None: `tokenizer.byte_level()`.
    kv_heads: key-value heads (ignored by gpt2 and opt, which have none of their own). max_length: positions.
    window: sliding-window length in tokens: every layer for qwen3 and mistral, every other (the first, third ...) for gemma2;
    None: no layer of qwen3 and mistral has one, gemma2's is `max_length`. Other kinds have no window: UserError.
    overrides: any field of the kind's transformers config, such as `word_embed_proj_dim=32` for an OPT with projections.
    Embeddings are tied where the kind's config ties by default (gemma2, gpt2, opt). The global random state is not touched.
    """
    if kind not in KINDS:
        raise UserError(f"tiny model kind {kind!r} is unknown; {did_you_mean(kind, KINDS)}")
    if hidden % heads or heads % kv_heads:
        raise UserError(f"tiny model: hidden={hidden} must be a multiple of heads={heads}, and heads of kv_heads={kv_heads}")
    if window is not None and kind not in WINDOWED:
        raise UserError(f"tiny model kind {kind!r} has no sliding window; those that have: {', '.join(WINDOWED)}")
    tokenizer = tokenizers.byte_level() if tokenizer is None else tokenizer
    vocab = len(tokenizer) if vocab is None else vocab
    if vocab < len(tokenizer):
        raise UserError(f"tiny model: vocab={vocab} is smaller than the tokenizer's {len(tokenizer)} tokens")
    ends = list(tokenizers.end_ids(tokenizer))
    special = {
        "vocab_size": vocab,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends if len(ends) > 1 else (ends[0] if ends else None),
    }
    fields = KINDS[kind](hidden, layers, heads, kv_heads, max_length, window)
    config = transformers.AutoConfig.for_model(kind, **(special | fields | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Drawn in float32 and then cast, so that one seed gives the same weights in every dtype.
    model = model.to(dtype)
    model.config.dtype = dtype
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(model.generation_config, name, special[name])
    return model.eval()


def _common(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": max_length,
        "attention_dropout": 0.0,
    }


def _qwen3(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    sliding = {"use_sliding_window": window is not None, "sliding_window": window, "max_window_layers": 0}
    return _common(hidden, layers, heads, kv_heads, max_length) | sliding


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    return _common(hidden, layers, heads, kv_heads, max_length)


def _gemma2(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    capped = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": hidden // heads}
    return _common(hidden, layers, heads, kv_heads, max_length) | capped | {"sliding_window": window or max_length}


def _mistral(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    return _common(hidden, layers, heads, kv_heads, max_length) | {"sliding_window": window}


def _gpt2(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    sizes = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": max_length, "n_inner": 2 * hidden}
    return sizes | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}


def _opt(hidden: int, layers: int, heads: int, kv_heads: int, max_length: int, window: int | None) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "ffn_dim": 2 * hidden}
    return sizes | {"word_embed_proj_dim": hidden, "max_position_embeddings": max_length, "dropout": 0.0, "attention_dropout": 0.0}


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "qwen3": _qwen3,
    "llama": _llama,
    "gemma2": _gemma2,
    "mistral": _mistral,
    "gpt2": _gpt2,
    "opt": _opt,
}
WINDOWED = ("qwen3", "mistral", "gemma2")
