"""The language-model head on its own: hidden states to logits exactly as the model does it, checked before it is used.

A head is `logits = cap(scale * linear(hidden))`. Scale and soft-cap are read from the config under the names the families use;
the result is then compared with the model's own logits on hidden states large enough to bend every soft-cap. A head that
differs is refused rather than approximated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from burnish.models.wide_head import WideLinear
from burnish.runs.errors import UserError

# Config fields that scale the logits: name -> factor. A field absent or None does nothing.
SCALES: dict[str, Callable[[Any], float]] = {
    "logit_scale": lambda config: float(config.logit_scale),  # Cohere
    "logits_scaling": lambda config: 1.0 / float(config.logits_scaling),  # Granite
    "lm_head_multiplier": lambda config: float(config.lm_head_multiplier),  # Falcon-H1
    "dim_model_base": lambda config: float(config.dim_model_base) / float(config.hidden_size),  # MiniCPM3
}
CAPS = ("final_logit_softcapping",)  # Gemma 2 and later
PROBE_TOKENS = 4
PROBE_LOGITS = 40.0  # standard deviation of the probe's logits before scale and cap: well beyond where soft-caps bend


class Plain(NamedTuple):
    """A linear map that can be computed by hand: weight [V, d], bias [V] or None."""

    weight: Tensor
    bias: Tensor | None


class Head:
    """A causal LM's head. Attributes: `scale` (a factor) and `cap` (soft-cap, or None); `fp32` computes in at least float32.

    The module is looked up and called anew each time, so adapters on it that are switched, merged or disabled are honoured.
    """

    def __init__(self, owner: nn.Module, scale: float = 1.0, cap: float | None = None, fp32: bool = False):
        self.owner, self.scale, self.cap, self.fp32 = owner, scale, cap, fp32

    @property
    def module(self) -> nn.Module:
        """The output layer as it stands now (a PEFT copy of it where one is active)."""
        module: Any = _output_layer(self.owner)
        copies = getattr(module, "modules_to_save", None)
        if copies is None:
            return module
        active = getattr(module, "active_adapters", None) or [getattr(module, "active_adapter", None)]
        if getattr(module, "disable_adapters", False) or active[0] not in copies:
            return module.original_module
        return copies[active[0]]

    @property
    def plain(self) -> Plain | None:
        """Weight and bias where the layer is nothing but a linear map just now, else None (an adapter or a quantised layer)."""
        module: Any = self.module
        # An adapted layer is its base layer alone where its adapters are all off, or all merged into it.
        if hasattr(module, "base_layer") and bool(getattr(module, "disable_adapters", False)) != bool(getattr(module, "merged", False)):
            module = module.base_layer
        if type(module) in (nn.Linear, WideLinear) and not module._forward_hooks and not module._forward_pre_hooks:
            return Plain(module.weight, module.bias)
        return None

    @property
    def vocab_size(self) -> int:
        """V: width of the logits."""
        module: Any = self.module
        features = getattr(module, "out_features", None)
        return int(features if features is not None else getattr(module, "base_layer", module).weight.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """In which the linear map runs."""
        module: Any = self.module
        dtype: torch.dtype = getattr(module, "base_layer", module).weight.dtype
        dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()  # quantised layers store integers
        return torch.promote_types(dtype, torch.float32) if self.fp32 else dtype

    def linear(self, hidden: Tensor) -> Tensor:
        """hidden [..., d] -> [..., V] before scale and soft-cap, in the head's dtype."""
        plain = self.plain
        if plain is None:
            return self.module(hidden.to(self.dtype) if not self.fp32 else hidden)
        weight, bias = plain
        if weight.dtype != self.dtype:
            weight, bias = weight.to(self.dtype), None if bias is None else bias.to(self.dtype)
        return nn.functional.linear(hidden.to(self.dtype), weight, bias)

    def shape_(self, raw: Tensor) -> Tensor:
        """Scale and soft-cap in place (for chunks that need no autograd)."""
        if self.scale != 1.0:
            raw.mul_(self.scale)
        return raw if self.cap is None else raw.div_(self.cap).tanh_().mul_(self.cap)

    def logits(self, hidden: Tensor) -> Tensor:
        """hidden [..., d] (final, normed) -> logits [..., V], as the model's own forward gives them; differentiable."""
        raw = self.linear(hidden)
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.cap is None else torch.tanh(raw / self.cap) * self.cap

    __call__ = logits


def head_of(model: nn.Module, fp32: bool = False) -> Head:
    """The model's head, verified against its own logits on a random probe (the global random state is not touched).

    model: a Hugging Face causal LM, bare or wrapped by PEFT (LoRA on the head included).
    fp32: compute the head in at least float32 where the model is in a narrower dtype.
    Raises UserError where the head is of an unknown kind or disagrees with the model.
    """
    inner = base_of(model)
    scale, cap = _scale_and_cap(inner)
    head = Head(inner, scale, cap)
    _verify(inner, head)
    head.fp32 = fp32 or isinstance(head.module, WideLinear)
    return head


def base_of(model: nn.Module) -> nn.Module:
    """The causal LM inside a PEFT wrapper (whose layers stay adapted), or the model itself.

    UserError for prompt-learning adapters, which put virtual tokens before the text.
    """
    config = getattr(model, "active_peft_config", None) if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else None
    if config is not None:
        if getattr(config, "is_prompt_learning", False):
            raise UserError(f"the adapter is of type {config.peft_type}, which adds virtual tokens; use LoRA, or merge it first")
        return model.get_base_model()  # type: ignore[operator]
    return model


def backbone_of(model: nn.Module) -> nn.Module:
    """The module whose `last_hidden_state` [B, T, d] goes into the head (after the final norm and any output projection).

    Raises UserError where the model has none that can be told.
    """
    inner: Any = base_of(model)
    decoder = inner.get_decoder() if hasattr(inner, "get_decoder") else None
    if decoder is None or decoder is inner:
        decoder = getattr(inner, getattr(inner, "base_model_prefix", "") or "model", None)
    if not isinstance(decoder, nn.Module) or decoder is inner:
        raise UserError(f"{_name(inner)}: no backbone found; burnish needs a decoder-only causal language model")
    return decoder


def _output_layer(model: Any) -> nn.Module:
    layer: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if not isinstance(layer, nn.Module):
        raise UserError(f"{_name(model)}: no output layer found; burnish needs a causal language model with a vocabulary head")
    return layer


def _scale_and_cap(model: nn.Module) -> tuple[float, float | None]:
    config: Any = model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    scale = 1.0
    for name, factor in SCALES.items():
        if getattr(config, name, None) is not None:
            scale *= factor(config)
    caps = [float(getattr(config, name)) for name in CAPS if getattr(config, name, None)]
    return scale, caps[0] if caps else None


@torch.no_grad()
def _verify(model: nn.Module, head: Head) -> None:
    """Put known hidden states where the backbone's would be and compare the model's logits with the head's."""
    backbone = backbone_of(model)
    device = next(model.parameters()).device
    seen: list[Tensor] = []

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        state = output[0]
        probe = torch.randn(state.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        probe = probe.to(device=state.device, dtype=state.dtype)
        probe = probe * (PROBE_LOGITS / head.linear(probe).cpu().double().std().clamp(min=1e-6)).to(probe.dtype).to(probe.device)
        seen.append(probe)
        if isinstance(output, tuple):
            return (probe, *output[1:])
        output["last_hidden_state"] = probe
        return output

    ids = torch.arange(PROBE_TOKENS, device=device)[None] % head.vocab_size
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    hook = backbone.register_forward_hook(replace)
    try:
        full = model(input_ids=ids, use_cache=False).logits
        mine = head.logits(seen[0]) if len(seen) == 1 else None
    finally:
        hook.remove()
        for module in was_training:
            module.training = True
    # The model may do the last steps in a wider or narrower dtype than the head; the probe must agree to that rounding.
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(head.dtype, 5e-2)
    if mine is None or mine.shape != full.shape or not _close(mine, full, tolerance):
        raise UserError(
            f"{_name(model)}: its logits are not cap(scale * linear(hidden)) with scale={head.scale:g}, cap={head.cap}; "
            "this head is unknown to burnish and is refused (models/heads.py lists what is known)"
        )


def _close(mine: Tensor, full: Tensor, tolerance: float) -> bool:
    mine, full = mine.cpu().double(), full.cpu().double()  # mps knows no float64
    gap = (mine - full).abs().max()
    return bool(gap <= tolerance * full.abs().max().clamp(min=1.0))


def _name(model: nn.Module) -> str:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    return f"{type(model).__name__} (model type {kind!r})" if kind else type(model).__name__
