"""Last-layer sensitivity: in which direction a completion would move the final hidden state (arXiv 2512.15687, steps 1 and 2).

phi_t = T d log p(y_t) / d h_t. For a plain head this is w_y - sum_v p_v w_v; a bias enters p, a scale multiplies it, a soft-cap
multiplies each row by its slope. Phi is the mean of phi over a rollout's tokens: T times the derivative of the mean log-prob with respect
to one vector that is added to all of the rollout's final hidden states. (A token's gradient factors through phi; a whole sequence's does
not factor through Phi.)
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from burnish.models.heads import Head
from burnish.models.logprobs import chunk_size
from burnish.models.needs import Need, Reduce
from burnish.runs.errors import UserError

ROWS = 16384
"""Rows of a head in a narrower dtype that are widened at a time."""


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The reduction `(hidden [C, d], head, ids [C], mask [C]) -> Phi [d]`, float32 (float64 for a float64 model), on the model's device.

    temperature: the one that the tokens were drawn at; 0 counts as 1. chunk: most tokens whose V probabilities exist at a time.
    """

    temperature: float = 1.0
    chunk: int = 1024

    def __call__(self, hidden: Tensor, head: Head, ids: Tensor, mask: Tensor) -> Tensor:
        """Zeros for a rollout without loss tokens. What the mask leaves out is never read."""
        if not bool(mask.all()):
            hidden, ids = hidden[mask], ids[mask]
        return sequence_feature(hidden, head, ids, self.temperature, self.chunk)


def sensitivity_need(temperature: float = 1.0) -> Need:
    """Phi of every rollout; parts with the same temperature share one measurement."""
    return Need(what=Reduce(Sensitivity(temperature)), name=f"last_layer_sensitivity@{temperature:g}")


@torch.no_grad()
def sequence_feature(hidden: Tensor, head: Head, ids: Tensor, temperature: float = 1.0, chunk: int = 1024) -> Tensor:
    """Phi [d] of one rollout. hidden: [C, d], final and normed. ids: int64 [C].

    The weighted means of the head's rows are never formed by token: what each row of the head counts for is summed over the tokens first
    [V], and multiplied with the head once.
    """
    dtype = torch.promote_types(head.dtype, torch.float32)
    plain = head.plain
    size = chunk_size(len(ids), head.vocab_size, chunk, hidden.device.type == "cpu")
    parts = list(zip(hidden.split(size), ids.split(size))) if len(ids) else []
    with torch.autocast(hidden.device.type, enabled=False):
        if plain is None:
            total = torch.zeros(hidden.shape[-1], dtype=dtype, device=hidden.device)
            for states, own in parts:
                total += token_features_naive(states, head, own, temperature).sum(0)
            return total / max(len(ids), 1)
        counts = torch.zeros(head.vocab_size, dtype=dtype, device=hidden.device)
        for states, own in parts:
            p, slope = _probabilities(states, head, temperature, dtype)
            ones = torch.ones(len(own), dtype=dtype, device=hidden.device)
            counts -= (p if slope is None else p.mul_(slope)).sum(0)
            counts.index_add_(0, own, ones if slope is None else slope.gather(1, own[:, None])[:, 0])
        return _times(counts[None], plain.weight)[0] * (head.scale / max(len(ids), 1))


@torch.no_grad()
def token_features(hidden: Tensor, head: Head, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """phi [C, d]: of each token. All V probabilities of the C tokens exist at once: give it a chunk at a time."""
    dtype = torch.promote_types(head.dtype, torch.float32)
    plain = head.plain
    if plain is None:
        return token_features_naive(hidden, head, ids, temperature)
    p, slope = _probabilities(hidden, head, temperature, dtype)
    pull = p.neg_()
    pull[torch.arange(len(ids), device=ids.device), ids] += 1.0
    return _times(pull if slope is None else pull.mul_(slope), plain.weight) * head.scale


def token_features_naive(hidden: Tensor, head: Head, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """phi [C, d] by automatic differentiation of whatever the head is: the oracle, and the way for heads with an adapter on them."""
    heat = temperature or 1.0
    with torch.enable_grad():
        states = hidden.detach().to(torch.promote_types(hidden.dtype, torch.float32) if head.plain is not None else hidden.dtype)
        states = states.requires_grad_()
        logits = head.logits(states)
        logp = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)) / heat, -1).gather(1, ids[:, None])
        (found,) = torch.autograd.grad(logp.sum(), states)
    return found.to(torch.promote_types(head.dtype, torch.float32)) * heat


def check_temperature(name: str, temperature: float) -> float:
    """The number; UserError where it is none that tokens can be drawn at."""
    if not (isinstance(temperature, (int, float)) and 0 <= temperature < float("inf")):
        raise UserError(f"shaper {name}: temperature is {temperature!r}; give sampling.temperature, a finite number >= 0")
    return float(temperature)


def _probabilities(hidden: Tensor, head: Head, temperature: float, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """(p [C, V], d logit / d (scale * linear) [C, V] or None where it is 1), both fresh."""
    logits = head.shape_(head.linear(hidden)).to(dtype)
    slope = None if head.cap is None else 1 - (logits / head.cap).square()
    if temperature not in (0, 1):
        logits = logits.div_(temperature)
    return torch.softmax(logits, -1), slope


def _times(counts: Tensor, weight: Tensor) -> Tensor:
    """[C, V] x [V, d] in the counts' dtype, without a wide copy of the whole head."""
    if weight.dtype == counts.dtype:
        return counts @ weight
    out = torch.zeros(len(counts), weight.shape[1], dtype=counts.dtype, device=counts.device)
    for start in range(0, len(weight), ROWS):
        out += counts[:, start : start + ROWS] @ weight[start : start + ROWS].to(counts.dtype)
    return out
