"""Which models the flat walker knows, and how their weights are read. Anything but the exact stock classes is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from transformers.pytorch_utils import Conv1D

from burnish.inference.support import Facts
from burnish.inference.walker import Layer, Linear, Norm, WalkerPath, Weights, activation_of

_ROTARY_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma2")
_STATIC_ROTARY = ("default", "linear", "llama3")


def walker_for(model: Any, facts: Facts) -> tuple[WalkerPath | None, str]:
    """A walker for `model` and "", or None and the reason."""
    kind = str(getattr(model.config, "model_type", "")) if hasattr(model, "config") else ""
    read = {"gpt2": _gpt2, "opt": _opt}.get(kind, _rotary_like if kind in _ROTARY_LIKE else None)
    if read is None:
        return None, f"no flat walker for model type {kind!r}"
    if facts.dtype != torch.float32:
        # The stock norms compute in float32 whatever the dtype; the modules reproduce this, the walker's fused norms do not.
        return None, f"the flat walker is for float32, the model is {facts.dtype}"
    changed = _not_stock(model)
    if changed is not None:
        return None, changed
    config = model.config
    if kind in _ROTARY_LIKE and config.rope_parameters.get("rope_type", "default") not in _STATIC_ROTARY:
        return None, f"rotary type {config.rope_parameters['rope_type']!r} depends on the length"
    if kind == "opt" and not (config.do_layer_norm_before and config.layer_norm_elementwise_affine):
        return None, "this OPT normalises after its layers"
    return WalkerPath(lambda: read(model), facts.windows), ""


def _not_stock(model: Any) -> str | None:
    """Why a model is not exactly what transformers built, or None."""
    home = type(model).__module__
    if not home.startswith("transformers.models."):
        return f"{type(model).__name__} is not a stock transformers class"
    for name, module in model.named_modules():
        kind = type(module)
        stock = kind.__module__ == home or kind.__module__.startswith(("torch.nn.modules.", "transformers.activations")) or kind is Conv1D
        if not stock:
            return f"module {name} is a {kind.__module__}.{kind.__name__}"
        if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
            return f"module {name} has a hook or a forward of its own"
        if any(p.dtype != torch.float32 for p in module.parameters(recurse=False)):
            return f"module {name} has parameters that are not float32"
    return None


def _linear(module: Any) -> Linear:
    weight = module.weight if isinstance(module, Conv1D) else module.weight.t()
    return Linear(weight.detach(), None if module.bias is None else module.bias.detach())


def _fused(*modules: Any, after: torch.Tensor | None = None) -> Linear:
    """Several projections of one input as one; a copy. after: weights [in] of the norm before them, folded in."""
    weight = torch.cat([m.weight.detach() for m in modules])
    weight = (weight if after is None else weight * after).t()
    bias = None if modules[0].bias is None else torch.cat([m.bias.detach() for m in modules])
    return Linear(weight, bias)


def _layer_norm(module: nn.LayerNorm) -> Norm:
    bias = None if module.bias is None else module.bias.detach()
    return Norm(module.normalized_shape[0], module.weight.detach(), bias, module.eps, rms=False)


def _rms(module: Any, plus_one: bool, folded: bool = False) -> Norm:
    eps = module.eps if plus_one else module.variance_epsilon
    return Norm(module.weight.shape[0], None if folded else _scale(module, plus_one), None, eps, rms=True)


def _scale(module: Any, plus_one: bool) -> torch.Tensor:
    """What an RMS norm multiplies by: Gemma stores it minus one."""
    return module.weight.detach() + 1.0 if plus_one else module.weight.detach()


def _rotary_like(model: Any) -> Weights:
    config, core = model.config, model.model
    gemma = config.model_type == "gemma2"
    first = core.layers[0].self_attn
    dim = first.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    layers = []
    for block in core.layers[: config.num_hidden_layers]:
        attention, mlp = block.self_attn, block.mlp
        before_mlp = block.pre_feedforward_layernorm if gemma else block.post_attention_layernorm
        layer = Layer(
            norm_in=_rms(block.input_layernorm, gemma, folded=True),
            qkv=_fused(attention.q_proj, attention.k_proj, attention.v_proj, after=_scale(block.input_layernorm, gemma)),
            out=_linear(attention.o_proj),
            norm_mlp=_rms(before_mlp, gemma, folded=True),
            up=_fused(mlp.gate_proj, mlp.up_proj, after=_scale(before_mlp, gemma)),
            down=_linear(mlp.down_proj),
        )
        if gemma:
            layer.norm_attended = _rms(block.post_attention_layernorm, True)
            layer.norm_fed = _rms(block.post_feedforward_layernorm, True)
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm.weight.detach(), attention.k_norm.weight.detach()
            layer.qk_weight = torch.cat([q.expand(heads, dim), k.expand(kv_heads, dim)])
            layer.qk_eps = attention.q_norm.variance_epsilon
        layers.append(layer)
    embedding = core.embed_tokens
    return Weights(
        layers=layers,
        embedding=embedding.weight.detach(),
        embed_scale=embedding.embed_scale.to(embedding.weight.dtype) if gemma else None,
        position_embedding=None,
        position_offset=0,
        rotary=_rotary_table(core.rotary_emb, embedding.weight),
        heads=heads,
        kv_heads=kv_heads,
        dim=dim,
        scaling=[block.self_attn.scaling for block in core.layers],
        softcap=config.attn_logit_softcapping if gemma else None,
        activation=activation_of(core.layers[0].mlp.act_fn, config.hidden_activation if gemma else config.hidden_act),
        gated=True,
        final_norm=_rms(core.norm, gemma),
        head=_linear(model.lm_head),
        head_softcap=config.final_logit_softcapping if gemma else None,
    )


def _rotary_table(module: Any, like: torch.Tensor) -> Callable[[int], tuple[torch.Tensor, torch.Tensor]]:
    def table(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        cos, sin = module(like, torch.arange(n, device=like.device)[None])
        return cos[0], sin[0]

    return table


def _gpt2(model: Any) -> Weights:
    config, core = model.config, model.transformer
    layers = [
        Layer(
            norm_in=_layer_norm(block.ln_1),
            qkv=_linear(block.attn.c_attn),
            out=_linear(block.attn.c_proj),
            norm_mlp=_layer_norm(block.ln_2),
            up=_linear(block.mlp.c_fc),
            down=_linear(block.mlp.c_proj),
        )
        for block in core.h
    ]
    attentions = [block.attn for block in core.h]
    activation = activation_of(core.h[0].mlp.act, config.activation_function)
    return _absolute(model, layers, attentions, core.wte, core.wpe, 0, activation, _layer_norm(core.ln_f))


def _opt(model: Any) -> Weights:
    config, core = model.config, model.model.decoder
    layers = [
        Layer(
            norm_in=_layer_norm(block.self_attn_layer_norm),
            qkv=_fused(block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj),
            out=_linear(block.self_attn.out_proj),
            norm_mlp=_layer_norm(block.final_layer_norm),
            up=_linear(block.fc1),
            down=_linear(block.fc2),
        )
        for block in core.layers
    ]
    attentions = [block.self_attn for block in core.layers]
    norm = None if core.final_layer_norm is None else _layer_norm(core.final_layer_norm)
    activation = activation_of(core.layers[0].activation_fn, config.activation_function)
    out = _absolute(model, layers, attentions, core.embed_tokens, core.embed_positions, core.embed_positions.offset, activation, norm)
    out.project_in = None if core.project_in is None else _linear(core.project_in)
    out.project_out = None if core.project_out is None else _linear(core.project_out)
    return out


def _absolute(
    model: Any, layers: list[Layer], attentions: list[Any], embedding: Any, places: Any, offset: int, activation: Any, norm: Norm | None
) -> Weights:
    return Weights(
        layers=layers,
        embedding=embedding.weight.detach(),
        embed_scale=None,
        position_embedding=places.weight.detach(),
        position_offset=offset,
        rotary=None,
        heads=attentions[0].num_heads,
        kv_heads=attentions[0].num_heads,
        dim=attentions[0].head_dim,
        scaling=[attention.scaling for attention in attentions],
        softcap=None,
        activation=activation,
        gated=False,
        final_norm=norm,
        head=_linear(model.lm_head),
        head_softcap=None,
    )
