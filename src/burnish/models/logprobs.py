"""Log-probs, entropies and vocabulary terms of chosen tokens, in chunks: the full logits tensor [K, V] never exists.

With gradient, a chunk's logits are computed again in the backward pass and turned into their own gradient in place,
so forward and backward together hold a few chunks, whatever K is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.models.heads import Head
from burnish.models.logprobs_backward import LOWEST, ModuleChunk, PlainChunk, Plan, TermFn, checked, logit_gradient
from burnish.runs.errors import UserError

ReduceFn = Callable[[Tensor, Head, Tensor, Tensor], Any]

# Logits held at a time. A CPU gains nothing from more than a few million; an accelerator wants more, up to a share of the whole.
CPU_LOGITS = 4 << 20
MIN_LOGITS, MAX_LOGITS, SHARE = 8 << 20, 64 << 20, 80


def token_values(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    want: Collection[str] = ("logp",),
    terms: Mapping[str, TermFn] | None = None,
    extras: Mapping[str, Any] | None = None,
    reduces: Mapping[str, ReduceFn] | None = None,
    temperature: float | Tensor = 1.0,
    chunk: int = 1024,
    grad: bool = False,
    segments: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Values of K tokens from the hidden states that predict them.

    head: from `heads.head_of`. hidden: [K, d], final and normed. targets: int64 [K].
    want: of "logp" (nats) and "entropy" (nats), both at the temperature.
    terms: name -> `term(logits[C, V], ids[C], extras) -> [C]`, differentiable; the logits are divided by the temperature.
    extras: name of a term -> its extras; tensors of length K in it (also inside dicts, lists and tuples) are cut to the chunk.
    reduces: name -> `reduce(hidden[C, d], head, ids[C], mask[C]) -> anything`, called without gradient once for each of `segments`
    (lengths that sum to K, such as rollouts; one segment of everything without them); its results come as a list.
    temperature: a number, or [K]; 0 counts as 1 (greedy sampling has the log-probs of temperature 1).
    chunk: most tokens at a time; fewer are taken where the vocabulary is large.
    grad: True keeps the results differentiable in hidden and in the head's parameters (not twice; extras get no gradient).

    Returns name -> Tensor [K] (float32, or float64 for a float64 model), or a list for reduces.
    Raises ValueError where shapes disagree, UserError for unknown names in `want`.
    """
    terms = dict(terms or {})
    unknown = set(want) - {"logp", "entropy"}
    if unknown or set(terms) & {"logp", "entropy"}:
        raise UserError(f"token_values: want={sorted(want)} may hold logp and entropy, and no term may be called so")
    plan = _plan(head, hidden, targets, [name for name in ("logp", "entropy") if name in want], terms, extras or {}, temperature, chunk)
    found: dict[str, Any] = {}
    if plan.names:
        with torch.autocast(hidden.device.type, enabled=False):
            if grad and torch.is_grad_enabled():
                values = _Recomputed.apply(plan, hidden, *plan.parameters)
            else:
                with torch.no_grad():
                    values = _forward(plan, hidden)[0]
        found.update(zip(plan.names, values))
    found.update(_reduced(head, hidden, targets, reduces or {}, segments))
    return found


def chunk_size(n_tokens: int, vocab_size: int, chunk: int = 1024, on_cpu: bool = True) -> int:
    """Tokens at a time: at most `chunk`, fewer where a chunk's logits would exceed 4 million numbers.

    Off the CPU the bound is 1/80 of all the logits, between 8 and 64 million.
    """
    room = CPU_LOGITS if on_cpu else min(MAX_LOGITS, max(MIN_LOGITS, n_tokens * vocab_size // SHARE))
    return max(1, min(chunk, room // vocab_size))


def _forward(plan: Plan, hidden: Tensor) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Values of all names [K], the log-sum-exp [K] and, where wanted, the entropy [K]."""
    values = {name: hidden.new_empty(len(plan.targets), dtype=plan.dtype) for name in plan.names}
    lse = hidden.new_empty(len(plan.targets), dtype=plan.dtype)
    for part in plan.chunks():
        ids = plan.targets[part]
        logits = plan.scaled(plan.head.linear(hidden[part]), part)
        for name, term in plan.terms.items():
            values[name][part] = checked(name, term(logits, ids, plan.extra(name, part)), ids)
        if not plan.wanted:
            continue
        top = logits.amax(-1, keepdim=True)
        logits.sub_(top)  # from here on relative to the largest, which keeps small differences exact
        powers = torch.exp(logits)
        total = powers.sum(-1)
        log_total = total.log()
        lse[part] = top[:, 0] + log_total
        if "logp" in values:
            values["logp"][part] = logits.gather(1, ids[:, None])[:, 0] - log_total
        if "entropy" in values:
            values["entropy"][part] = log_total - powers.mul_(logits.clamp_(min=LOWEST)).sum(-1) / total
    return [values[name] for name in plan.names], lse, values.get("entropy")


class _Recomputed(torch.autograd.Function):
    """`_forward` whose backward computes each chunk's logits again instead of keeping them."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, hidden: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        values, lse, entropy = _forward(plan, hidden)
        ctx.plan = plan
        ctx.save_for_backward(hidden, lse, entropy)
        ctx.set_materialize_grads(False)
        return tuple(values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        hidden, lse, entropy = ctx.saved_tensors
        plan: Plan = ctx.plan
        given = {name: value.to(plan.dtype) for name, value in zip(plan.names, upstream) if value is not None}
        wants = ctx.needs_input_grad[1:]
        chunks = PlainChunk(plan, hidden, wants) if plan.head.plain is not None else ModuleChunk(plan, hidden, wants)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in plan.chunks():
                raw = chunks.raw(part)
                with torch.no_grad():
                    local = {name: value[part] for name, value in given.items()}
                    d_raw = logit_gradient(plan, part, raw.detach(), lse[part], None if entropy is None else entropy[part], local)
                    chunks.accumulate(part, d_raw)
        return (None, *chunks.gradients())


def _plan(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    wanted: list[str],
    terms: dict[str, TermFn],
    extras: Mapping[str, Any],
    temperature: float | Tensor,
    chunk: int,
) -> Plan:
    if hidden.dim() != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"token_values: hidden has shape {tuple(hidden.shape)} and targets {tuple(targets.shape)}; wanted are [K, d] and [K]"
        )
    dtype = torch.promote_types(head.dtype, torch.float32)
    per_token = None
    if isinstance(temperature, Tensor) or temperature not in (0, 1):
        per_token = torch.as_tensor(temperature, dtype=dtype, device=hidden.device).detach().expand(targets.shape)
        if bool((per_token < 0).any()):
            raise ValueError("token_values: a temperature is negative")
        per_token = torch.where(per_token == 0, torch.ones_like(per_token), per_token)
    plain = head.plain
    parameters: list[Tensor] = (
        [p for p in head.module.parameters() if p.requires_grad] if plain is None else [p for p in plain if p is not None]
    )
    tokens = chunk_size(len(targets), head.vocab_size, chunk, hidden.device.type == "cpu")
    return Plan(head, targets, wanted, terms, extras, per_token, tokens, dtype, parameters)


def _reduced(
    head: Head, hidden: Tensor, targets: Tensor, reduces: Mapping[str, ReduceFn], segments: Sequence[int] | None
) -> dict[str, Any]:
    if not reduces:
        return {}
    lengths = [len(targets)] if segments is None else [int(length) for length in segments]
    if sum(lengths) != len(targets):
        raise ValueError(f"token_values: the segments hold {sum(lengths)} tokens; there are {len(targets)}")
    out: dict[str, Any] = {name: [] for name in reduces}
    with torch.no_grad():
        for states, ids in zip(hidden.detach().split(lengths), targets.split(lengths)):
            for name, reduce in reduces.items():
                out[name].append(reduce(states, head, ids, torch.ones_like(ids, dtype=torch.bool)))
    return out


def _naive(
    head: Head, hidden: Tensor, targets: Tensor, terms: Mapping[str, TermFn] | None = None, extras: Any = None, temperature: Any = 1.0
) -> dict[str, Tensor]:
    """The same by the book, with the whole logits tensor and autograd: the test's oracle."""
    logits = head.logits(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    temperature = torch.as_tensor(temperature, dtype=logits.dtype).expand(targets.shape)
    logits = logits / torch.where(temperature == 0, torch.ones_like(temperature), temperature)[:, None]
    log_probs = torch.log_softmax(logits, -1)
    found = {"logp": log_probs.gather(1, targets[:, None])[:, 0], "entropy": -(log_probs.exp() * log_probs).sum(-1)}
    return found | {name: term(logits, targets, (extras or {}).get(name)) for name, term in (terms or {}).items()}
