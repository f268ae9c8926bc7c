"""Running a Hugging Face model through its own modules, with the session's attention in place of its own.

While the engine's forward pass runs, the config names `burnish_session` as the attention implementation, so every attention
layer calls `session_attention`; afterwards the former name is put back, and the learner's forward passes see no difference.
No mask function is registered under the name: transformers then builds no masks, because the plan knows which keys are seen.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from transformers import AttentionInterface

from burnish.inference.attention import Plan
from burnish.inference.support import Facts, unwrapped
from burnish.runs.errors import UserError

NAME = "burnish_session"
_current = threading.local()


def session_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention signature: query [B, heads, T, dim] -> [B, T, heads, dim], through the plan of this forward pass."""
    plan, windows = _current.plan, _current.windows
    layer = getattr(module, "layer_idx", None)
    if layer is None or layer >= len(windows):
        raise UserError(f"{type(module).__name__} does not say which layer it is; the engine cannot serve this model")
    for name in ("position_bias", "s_aux", "head_mask"):
        if kwargs.get(name) is not None:
            raise UserError(f"{type(module).__name__} uses {name} in its attention, which the engine does not read")
    if sliding_window is not None and sliding_window != windows[layer]:
        raise UserError(f"layer {layer} asks for a window of {sliding_window} tokens where its config says {windows[layer]}")
    if not getattr(module, "is_causal", True):
        raise UserError(f"{type(module).__name__} is not causal; the engine serves causal attention only")
    batch, heads, length, _ = query.shape
    # Decoding has one token in each of B rows, prefill T tokens in one row: either way B*T tokens laid end to end.
    q, k, v = (x.transpose(1, 2).reshape(batch * length, x.shape[1], x.shape[3]) for x in (query, key, value))
    out = plan.attend(layer, q, k, v, query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, windows[layer])
    return out.view(batch, length, heads, out.shape[-1]), None


class PassThrough(transformers.Cache):
    """Hands keys and values on to the attention function, which stores them: the models want a cache object to call."""

    def __init__(self) -> None:
        super().__init__(layers=[])

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> Any:
        """The new keys and values alone."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Always 0; positions are passed explicitly."""
        return 0


AttentionInterface.register(NAME, session_attention)


class ModulePath:
    """The path that always exists: the model's own forward, hooks, adapters and all."""

    name = "modules"

    def __init__(self, model: Any, facts: Facts):
        self.model, self.facts = model, facts
        self._config = unwrapped(model).config
        self._stub = PassThrough()

    def refresh(self) -> None:
        """Nothing is copied, so there is nothing to renew."""

    @contextlib.contextmanager
    def _session(self, plan: Plan) -> Iterator[None]:
        before = self._config._attn_implementation_internal
        self._config._attn_implementation_internal = NAME
        _current.plan, _current.windows = plan, self.facts.windows
        try:
            yield
        finally:
            self._config._attn_implementation_internal = before
            _current.plan = None

    def logits(
        self,
        ids: torch.Tensor | None,
        positions: torch.Tensor,
        plan: Plan,
        keep: torch.Tensor | None,
        decode: bool,
        embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits [n, V] of T tokens laid end to end (ids [T] or embeds [T, d]; positions [T]).

        keep: indices of the tokens whose logits are wanted (int64 [n]); None: all. decode: each token is a row of its own.
        """
        shape = (-1, 1) if decode else (1, -1)
        kwargs: dict[str, Any] = {"position_ids": positions.view(shape), "past_key_values": self._stub, "use_cache": True}
        if embeds is None:
            assert ids is not None
            kwargs["input_ids"] = ids.view(shape)
        else:
            kwargs["inputs_embeds"] = embeds[None]
        if keep is not None and not decode and self.facts.keeps_logits:
            kwargs["logits_to_keep"] = keep
        with self._session(plan):
            out = self.model(**kwargs).logits
        out = out.reshape(-1, out.shape[-1])
        return out[keep] if keep is not None and "logits_to_keep" not in kwargs else out

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Input embeddings [T, d] of token ids, as the model's first layer sees them before positions are added."""
        return unwrapped(self.model).get_input_embeddings()(ids)
