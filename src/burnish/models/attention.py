"""The attention function of the packed row: prefixes attend to themselves, branches to their prefix and to themselves.

Registered once with transformers under `PACKED`, as attention and as mask. When a model asks for its masks, the mask function
hands back a `PackedMask`, made from the model's own rule (causal, sliding window, chunks ...) evaluated at the tokens' true
positions. Models pass it on to their layers like any mask, also when gradient checkpointing computes a layer again, so nothing
else has to be carried. What the function does not know (an attention bias, sinks ...) raises `CannotPack`, never computes wrongly.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from burnish.models.sharing import Block, Layout

PACKED = "burnish_packed"
DENSE = "burnish_dense"
_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("burnish_packed_layout", default=None)

# Arguments of attention calls that change nothing here: what they say is in the mask, in the positions, or about other kernels.
_HARMLESS = frozenset(
    {"sliding_window", "position_ids", "use_cache", "cache_position", "output_attentions", "output_hidden_states", "is_causal"}
    | {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "position_embeddings", "num_items_in_batch", "return_dict"}
)


class CannotPack(RuntimeError):
    """The model's attention has something the packed row does not know; the plain path is right for it."""


class PackedMask:
    """A layer's mask over the packed row.

    prefix: bool [1, 1, P, P], or None where it is plainly causal. branch: bool [1 or branches, 1, L, P + L]; True attends.
    Padded places repeat a real token, so every query sees at least itself and nothing becomes NaN.
    """

    def __init__(self, layout: Layout, rule: Callable[..., Tensor], device: torch.device):
        self.layout = layout
        zero = torch.zeros((), dtype=torch.int64, device=device)
        steps = torch.arange(layout.prefixes.longest, device=device)
        prefix = rule(zero, zero, steps[:, None], steps[None, :]).expand(len(steps), len(steps))
        causal = steps[None, :] <= steps[:, None]
        self.prefix: Tensor | None = None if torch.equal(prefix, causal) else prefix[None, None]
        self.branch = self._branches(rule, zero, steps) if layout.branches.pieces else None
        self._biases: dict[tuple[str, torch.dtype], Tensor] = {}

    def _branches(self, rule: Callable[..., Tensor], zero: Tensor, steps: Tensor) -> Tensor:
        """The rule between a branch's true positions and those of its prefix and itself."""
        layout, own = self.layout, torch.arange(self.layout.branches.longest, device=steps.device)
        uniform = layout.prefixes.index is None
        sizes = layout.prefix_sizes[:1] if uniform else layout.prefix_sizes[layout.owner]
        queries = (sizes[:, None] + own)[:, :, None]  # [1 or branches, L, 1]
        before = steps.expand(len(sizes), 1, -1)
        seen = rule(zero, zero, queries, before).expand(len(sizes), len(own), len(steps)) & (before < sizes[:, None, None])
        within = rule(zero, zero, queries, queries.transpose(1, 2)).expand(len(sizes), len(own), len(own))
        return torch.cat([seen, within], dim=-1)[:, None]

    def bias(self, which: str, dtype: torch.dtype) -> Tensor:
        """The mask to add to scores: 0 or -inf."""
        if (which, dtype) not in self._biases:
            mask = getattr(self, which)
            if mask is None:
                steps = torch.arange(self.layout.prefixes.longest, device=self.layout.ids.device)
                mask = (steps[None, :] <= steps[:, None])[None, None]
            self._biases[which, dtype] = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
        return self._biases[which, dtype]


def packed_mask(*, mask_function: Callable[..., Tensor], use_vmap: bool = False, device: Any = "cpu", **_: Any) -> PackedMask:
    """transformers' mask interface: called by the model once for each kind of layer."""
    layout = _layout.get()
    if layout is None:
        raise RuntimeError(f"attention {PACKED!r} is for burnish's packed rows; set another attn_implementation to run the model itself")
    if use_vmap:
        raise CannotPack("its masks are made by a function of its own")
    return PackedMask(layout, mask_function, torch.device(device))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface. query [1, H, T, D]; key, value [1, Hkv, T, D] -> [1, T, H, D]."""
    if not isinstance(attention_mask, PackedMask):
        raise CannotPack("it makes its attention masks in its own way")
    unknown = [name for name, given in kwargs.items() if given is not None and name not in _HARMLESS]
    if unknown or dropout:
        raise CannotPack(f"its attention takes {unknown[0] if unknown else 'dropout'}")
    layout = attention_mask.layout
    scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # [T, heads, D]
    kp, vp = _padded(k, layout.prefixes), _padded(v, layout.prefixes)
    bias = attention_mask.bias if softcap is not None else None
    outer = _attend(_padded(q, layout.prefixes), kp, vp, attention_mask.prefix, scale, softcap, bias and bias("prefix", query.dtype))
    parts = [_unpadded(outer, layout.prefixes)]
    if attention_mask.branch is not None:
        branches = layout.branches
        kb = torch.cat([kp.index_select(0, layout.owner), _padded(k, branches)], dim=2)
        vb = torch.cat([vp.index_select(0, layout.owner), _padded(v, branches)], dim=2)
        inner = _attend(_padded(q, branches), kb, vb, attention_mask.branch, scale, softcap, bias and bias("branch", query.dtype))
        parts.append(_unpadded(inner, branches))
    return torch.cat(parts)[None], None


def _padded(tokens: Tensor, block: Block) -> Tensor:
    """[T, heads, D] -> the block's tokens as [pieces, heads, longest, D]."""
    tokens = tokens[block.start : block.start + block.tokens]
    if block.index is not None:
        tokens = tokens.index_select(0, block.index)
    return tokens.reshape(block.pieces, block.longest, *tokens.shape[1:]).transpose(1, 2)


def _unpadded(padded: Tensor, block: Block) -> Tensor:
    """The way back: [pieces, heads, longest, D] -> [tokens, heads, D]."""
    tokens = padded.transpose(1, 2).flatten(0, 1)
    return tokens if block.keep is None else tokens.index_select(0, block.keep)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None, bias: Tensor | None) -> Tensor:
    """q [B, H, L, D]; k, v [B, Hkv, S, D] -> [B, H, L, D]. mask None: causal. With a soft-cap `bias` is used instead of mask."""
    repeat = q.shape[1] // k.shape[1]
    if softcap is None:
        if repeat > 1 and mask is not None and q.device.type != "cpu":  # no masked kernel for grouped heads there
            k, v, repeat = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1), 1
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, is_causal=mask is None, enable_gqa=repeat > 1)
    batch, heads, length, width = q.shape
    # Query heads of one key head are rows of one matrix product: no copies of keys and values.
    scores = (q.reshape(batch, -1, repeat * length, width) * (scale / softcap)) @ k.transpose(2, 3)
    scores = torch.tanh(scores) * softcap
    scores = scores.view(batch, heads, length, -1) + bias  # type: ignore[operator]
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=wide).to(q.dtype)
    return (weights.view(batch, -1, repeat * length, weights.shape[-1]) @ v).view(batch, heads, length, -1)


def dense_mask(**kwargs: Any) -> Tensor:
    """The ordinary bool mask [B, 1, L, L], always made."""
    return sdpa_mask(**(kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}))  # type: ignore[return-value]


def dense_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Plain batched attention with a softmax in the model's own dtype: transformers' eager one goes down to float32.

    Used for float64 models with eager attention only.
    """
    unknown = [name for name, given in kwargs.items() if given is not None and name not in _HARMLESS]
    if unknown or dropout or attention_mask is None or attention_mask.dtype != torch.bool:
        raise CannotPack("its attention has arguments of its own")
    scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
    low = torch.finfo(query.dtype).min  # finite, so that a query that sees nothing (left padding) stays finite
    bias = torch.zeros(attention_mask.shape, dtype=query.dtype, device=query.device).masked_fill_(~attention_mask, low)
    repeat = query.shape[1] // key.shape[1]
    mask = bias
    if softcap is None:
        k, v = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        out = scaled_dot_product_attention(query, k, v, attn_mask=mask, scale=scale)
    else:
        out = _attend(query, key, value, None, scale, softcap, mask)
    return out.transpose(1, 2), None


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)
AttentionInterface.register(DENSE, dense_attention)
AttentionMaskInterface.register(DENSE, dense_mask)


@contextlib.contextmanager
def implementation(configs: Sequence[Any], name: str | None, layout: Layout | None = None) -> Iterator[None]:
    """Within: models with these configs use the attention `name` (None: their own), and masks are made for `layout`.

    Not for two threads at once on one model: the choice lives in its config.
    """
    before = [config._attn_implementation_internal for config in configs] if name else []
    token = _layout.set(layout)
    try:
        for config in configs if name else ():
            config._attn_implementation_internal = name
        yield
    finally:
        _layout.reset(token)
        for config, old in zip(configs, before):
            config._attn_implementation_internal = old


def configs_of(model: nn.Module) -> list[Any]:
    """The different config objects of a model's modules that name an attention implementation."""
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
    return list(found.values())
