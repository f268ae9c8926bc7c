"""The backward half of `logprobs.py`: what one call computes (`Plan`), and each chunk's gradient by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.models.heads import Head
from burnish.runs.errors import UserError

TermFn = Callable[[Tensor, Tensor, Any], Tensor]
LOWEST = -1e30  # instead of -inf logits (masked vocabulary), where 0 * -inf would be NaN


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one call computes; `parameters` are the head's that may receive a gradient."""

    head: Head
    targets: Tensor
    wanted: list[str]
    terms: dict[str, TermFn]
    extras: Mapping[str, Any]
    temperature: Tensor | None
    chunk: int
    dtype: torch.dtype
    parameters: list[Tensor]

    @property
    def names(self) -> list[str]:
        return [*self.wanted, *self.terms]

    def chunks(self) -> Iterator[slice]:
        for start in range(0, len(self.targets), self.chunk):
            yield slice(start, min(start + self.chunk, len(self.targets)))

    def scaled(self, raw: Tensor, part: slice) -> Tensor:
        """Raw head outputs -> logits at the temperature, in place where the dtype allows. float32 at least."""
        logits = self.head.shape_(raw.to(self.dtype))
        return logits if self.temperature is None else logits.div_(self.temperature[part, None])

    def extra(self, name: str, part: slice) -> Any:
        return _cut(self.extras.get(name), part, len(self.targets))


def logit_gradient(plan: Plan, part: slice, raw: Tensor, lse: Tensor, entropy: Tensor | None, given: dict[str, Tensor]) -> Tensor:
    """Gradient [C, V] with respect to the raw head outputs; `raw` is used up."""
    ids, cap = plan.targets[part], plan.head.cap
    logits = plan.scaled(raw.clone() if raw.dtype == plan.dtype and plan.terms else raw, part)
    bend = None
    if cap is not None:  # derivative of cap * tanh(x / cap) = 1 - (logits / cap)^2, at temperature 1
        bend = logits / cap if plan.temperature is None else logits.mul(plan.temperature[part, None] / cap)
        bend.square_().neg_().add_(1.0)
    from_terms = _term_gradient(plan, part, logits, ids, given)
    d_logp, d_entropy = given.get("logp"), given.get("entropy")
    out = None
    if d_logp is not None or d_entropy is not None:
        log_probs = logits.sub_(lse[:, None])
        if d_entropy is None:
            assert d_logp is not None
            out = log_probs.exp_().mul_(-d_logp[:, None])
        else:  # d entropy / d logit = -p (log p + entropy)
            assert entropy is not None
            probs = torch.exp(log_probs)
            out = log_probs.clamp_(min=LOWEST).add_(entropy[:, None]).mul_(-d_entropy[:, None])
            if d_logp is not None:
                out.sub_(d_logp[:, None])
            out.mul_(probs)
            del probs
        if d_logp is not None:
            out.scatter_add_(1, ids[:, None], d_logp[:, None])
    if from_terms is not None:
        out = from_terms if out is None else out.add_(from_terms)
    if out is None:
        return torch.zeros_like(logits)
    if plan.temperature is not None:
        out.div_(plan.temperature[part, None])
    if bend is not None:
        out.mul_(bend)
    return out if plan.head.scale == 1.0 else out.mul_(plan.head.scale)


def _term_gradient(plan: Plan, part: slice, logits: Tensor, ids: Tensor, given: dict[str, Tensor]) -> Tensor | None:
    asked = {name: term for name, term in plan.terms.items() if name in given}
    if not asked:
        return None
    leaf = logits.clone().requires_grad_()
    with torch.enable_grad():
        pairs = [(checked(name, term(leaf, ids, plan.extra(name, part)), ids), given[name]) for name, term in asked.items()]
        pairs = [(value, weight) for value, weight in pairs if value.requires_grad]
        if not pairs:
            return None
        return torch.autograd.grad([value for value, _ in pairs], leaf, [weight.to(value.dtype) for value, weight in pairs])[0]


class PlainChunk:
    """Gradients of a plain linear head, added up by hand: no second tensor of the weight's size is ever made."""

    def __init__(self, plan: Plan, hidden: Tensor, wants: Sequence[bool]):
        plain = plan.head.plain
        assert plain is not None
        self.plan, self.hidden, self.wants = plan, hidden, wants
        self.weight = plain.weight.detach().to(plan.head.dtype)
        # Sums over chunks are kept in float32 at least: narrow dtypes would lose the later chunks.
        self.sums = [
            p.new_zeros(p.shape, dtype=torch.promote_types(p.dtype, torch.float32)) if want else None
            for p, want in zip(plan.parameters, wants[1:])
        ]
        self.d_hidden = torch.empty_like(hidden) if wants[0] else None

    def raw(self, part: slice) -> Tensor:
        with torch.no_grad():
            return self.plan.head.linear(self.hidden[part])

    def accumulate(self, part: slice, d_raw: Tensor) -> None:
        narrow = d_raw.to(self.weight.dtype)
        if self.d_hidden is not None:
            self.d_hidden[part] = (narrow @ self.weight).to(self.d_hidden.dtype)
        if self.sums[0] is not None:
            states = self.hidden[part].to(narrow.dtype)
            if narrow.dtype == self.sums[0].dtype:
                self.sums[0].addmm_(narrow.T, states)
            else:
                self.sums[0].add_(narrow.T @ states)
        if len(self.sums) > 1 and self.sums[1] is not None:
            self.sums[1].add_(d_raw.sum(0))

    def gradients(self) -> list[Tensor | None]:
        parameters = [None if total is None else total.to(p.dtype) for total, p in zip(self.sums, self.plan.parameters)]
        return [self.d_hidden, *parameters]


class ModuleChunk:
    """Gradients of any other head module (an adapter on it, a quantised layer), chunk by chunk through autograd."""

    def __init__(self, plan: Plan, hidden: Tensor, wants: Sequence[bool]):
        self.plan, self.hidden, self.wants = plan, hidden, wants
        for module in plan.head.module.modules():
            if isinstance(module, torch.nn.Dropout) and module.p > 0 and module.training:
                raise UserError("the head has dropout, which a backward pass could not repeat; set lora_dropout to 0 or call model.eval()")
        self.sums: list[Tensor | None] = [None] * len(wants)
        self.sums[0] = torch.empty_like(hidden) if wants[0] else None

    def raw(self, part: slice) -> Tensor:
        with torch.enable_grad():
            self.states = self.hidden[part].detach().requires_grad_(bool(self.wants[0]))
            self.output = self.plan.head.linear(self.states)
        return self.output.detach().clone()

    def accumulate(self, part: slice, d_raw: Tensor) -> None:
        inputs = [self.states, *self.plan.parameters]
        asked = [index for index, want in enumerate(self.wants) if want]
        with torch.enable_grad():
            found = torch.autograd.grad(self.output, [inputs[i] for i in asked], d_raw.to(self.output.dtype), allow_unused=True)
        for index, gradient in zip(asked, found):
            if index == 0:
                assert self.sums[0] is not None
                self.sums[0][part] = 0.0 if gradient is None else gradient
            elif gradient is not None:
                wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
                known = self.sums[index]
                self.sums[index] = wide if known is None else known.add_(wide)
        del self.output, self.states

    def gradients(self) -> list[Tensor | None]:
        like = [self.hidden, *self.plan.parameters]
        return [None if total is None else total.to(p.dtype) for total, p in zip(self.sums, like)]


def _cut(extra: Any, part: slice, length: int) -> Any:
    if isinstance(extra, Tensor):
        return extra[part] if extra.dim() and extra.shape[0] == length else extra
    if isinstance(extra, Mapping):
        return {key: _cut(value, part, length) for key, value in extra.items()}
    return type(extra)(_cut(value, part, length) for value in extra) if type(extra) in (list, tuple) else extra


def checked(name: str, value: Tensor, ids: Tensor) -> Tensor:
    if value.shape != ids.shape:
        raise ValueError(f"term {name!r} returned shape {tuple(value.shape)}; wanted is one value a token, {tuple(ids.shape)}")
    return value
