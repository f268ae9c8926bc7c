"""The flat walker: the same arithmetic as the stock transformers modules, without their Python between the products.

On a small model most of a decoding step is Python around small matrix products. The walker keeps, for the architectures it
knows (`weights.py`), the weights of each layer in a plain record and walks over them. It is used only where every module is
the stock class without hooks, and where a comparison with the model's own forward pass at engine start has succeeded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from burnish.inference.attention import Plan

Function = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass
class Norm:
    """RMS norm (bias None) or layer norm over the last dimension of size `dim`. weight None: it is folded into what follows."""

    dim: int
    weight: torch.Tensor | None
    bias: torch.Tensor | None
    eps: float
    rms: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self.rms:
            return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)
        x = x * inverse_rms(x, self.dim, self.eps)
        return x if self.weight is None else x.mul_(self.weight)


def inverse_rms(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension, kept. From the vector norm: half the time of torch's composed rms_norm."""
    norm = torch.linalg.vector_norm(x, 2, -1, True)
    return (norm * norm).mul_(1.0 / dim).add_(eps).rsqrt_()


@dataclasses.dataclass
class Linear:
    """weight: [in, out] (a transposed view of the model's own, or a fused copy). bias: [out] or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """residual + self(x) in one product."""
        if self.bias is not None:
            residual = residual + self.bias
        return torch.addmm(residual, x, self.weight)


@dataclasses.dataclass
class Layer:
    """One decoder layer. `qkv` gives queries, keys and values side by side; `up` gives gate and up side by side where `gated`.

    qk_weight: [heads + kv_heads, dim], the RMS norm's weights of queries and keys, or None. Norms that a family lacks are None.
    """

    norm_in: Norm
    qkv: Linear
    out: Linear
    norm_mlp: Norm
    up: Linear
    down: Linear
    qk_weight: torch.Tensor | None = None
    qk_eps: float = 1e-6
    norm_attended: Norm | None = None
    norm_fed: Norm | None = None


@dataclasses.dataclass
class Weights:
    """A whole model as the walker reads it. cos/sin come from `rotary(n) -> (cos, sin) [n, dim]`, or are None for absolute positions."""

    layers: list[Layer]
    embedding: torch.Tensor
    embed_scale: torch.Tensor | None
    position_embedding: torch.Tensor | None
    position_offset: int
    rotary: Callable[[int], tuple[torch.Tensor, torch.Tensor]] | None
    heads: int
    kv_heads: int
    dim: int
    scaling: list[float]
    softcap: float | None
    activation: Function
    gated: bool
    final_norm: Norm | None
    head: Linear
    head_softcap: float | None
    project_in: Linear | None = None
    project_out: Linear | None = None


class WalkerPath:
    """Runs `Weights`; the same interface as `modules.ModulePath`."""

    name = "walker"

    def __init__(self, read: Callable[[], Weights], windows: tuple[int | None, ...]):
        self._read, self._windows = read, windows
        self._cos: torch.Tensor | None = None
        self._sin: torch.Tensor | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the model's weights again (fused weights are copies)."""
        self.weights = self._read()

    def logits(
        self,
        ids: torch.Tensor | None,
        positions: torch.Tensor,
        plan: Plan,
        keep: torch.Tensor | None,
        decode: bool,
        embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `ModulePath.logits`."""
        w = self.weights
        x = self.embed(ids) if embeds is None and ids is not None else embeds
        assert x is not None
        if w.project_in is not None:
            x = w.project_in(x)
        if w.position_embedding is not None:
            x = x + w.position_embedding[positions + w.position_offset]
        turn = self._rotation(positions)
        for index, layer in enumerate(w.layers):
            # The last layer's keys and values are needed of every token, what follows its attention only of those that are kept.
            x = self._layer(index, layer, x, turn, plan, keep if layer is w.layers[-1] else None)
        if w.final_norm is not None:
            x = w.final_norm(x)
        if w.project_out is not None:
            x = w.project_out(x)
        logits = w.head(x)
        return logits if w.head_softcap is None else logits.div_(w.head_softcap).tanh_().mul_(w.head_softcap)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """See `ModulePath.embed`."""
        x = F.embedding(ids, self.weights.embedding)
        return x if self.weights.embed_scale is None else x * self.weights.embed_scale

    def _layer(
        self,
        index: int,
        layer: Layer,
        x: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor] | None,
        plan: Plan,
        keep: torch.Tensor | None,
    ) -> torch.Tensor:
        w = self.weights
        both = w.heads + w.kv_heads
        projected = layer.qkv(layer.norm_in(x)).view(x.shape[0], both + w.kv_heads, w.dim)
        qk = projected[:, :both]
        if layer.qk_weight is not None:
            qk = (qk * inverse_rms(qk, w.dim, layer.qk_eps)).mul_(layer.qk_weight)
        if turn is not None:
            qk = (qk * turn[0]).addcmul_(torch.roll(qk, w.dim // 2, -1), turn[1])
        q, k, v = qk[:, : w.heads], qk[:, w.heads :], projected[:, both:]
        attended = plan.attend(index, q, k, v, w.scaling[index], w.softcap, self._windows[index])
        attended = attended.reshape(x.shape[0], w.heads * w.dim)
        if keep is not None:
            x, attended = x[keep], attended[keep]
        x = layer.out.onto(x, attended) if layer.norm_attended is None else x + layer.norm_attended(layer.out(attended))
        wide = layer.up(layer.norm_mlp(x))
        if w.gated:
            half = wide.shape[1] // 2
            wide = w.activation(wide[:, :half]).mul_(wide[:, half:])
        else:
            wide = w.activation(wide)
        return layer.down.onto(x, wide) if layer.norm_fed is None else x + layer.norm_fed(layer.down(wide))

    def _rotation(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """cos and signed sin [T, 1, dim]: rotate_half(x) * sin == roll(x, dim / 2) * signed sin."""
        if self.weights.rotary is None:
            return None
        needed = int(positions.max()) + 1
        if self._cos is None or self._sin is None or self._cos.shape[0] < needed:
            cos, sin = self.weights.rotary(-(-needed // 512) * 512)
            half = sin.shape[1] // 2
            self._cos, self._sin = cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=1)
        return self._cos[positions][:, None], self._sin[positions][:, None]


def activation_of(module: Any, name: str) -> Function:
    """The functional form of a stock activation, or the module itself."""
    known: dict[str, Function] = {
        "silu": F.silu,
        "relu": F.relu,
        "gelu": F.gelu,
        "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
        "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    }
    return known.get(name, module)
