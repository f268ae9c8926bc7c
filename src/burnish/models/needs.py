"""Need: one thing a part wants measured about a rollout's tokens. The trainer takes the union and computes each once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from burnish.runs.errors import UserError

NAMED = ("logp", "entropy", "value")


@dataclasses.dataclass(frozen=True)
class Term:
    """A differentiable per-token value computed where the logits are: `fn(logits[C, V], ids[C], extras) -> Tensor[C]`.

    The logits are the model's own divided by the temperature. extras: whatever was given for this term, cut to the chunk.
    given: needs of other models (log-probs, or reduces that give a tensor a rollout) that the trainer measures for it without gradient:
    extras is then {key: [C, ...] of each, "heads": {key: that model's head}, "temperature": [C]}.
    """

    fn: Callable[..., Any]
    given: tuple[Need, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reduce:
    """A summary of hidden states that are not kept: `fn(hidden[C, d], head, ids[C], mask[C]) -> anything`, once a rollout."""

    fn: Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Need:
    """model: "policy", "reference" or another model's name.

    what: "logp" (nats), "entropy" (nats), "value" (a critic's), a `Reduce` or a `Term`; a bare callable counts as a `Reduce`.
    context: None, or a function Rollout -> Rollout that gives the same tokens another context (a teacher's hints, a shuffled prompt ...).
    name: the key of the result; without it the key is made of the rest. A lambda needs a name, for it has none of its own.

    Raises UserError where `what` is none of these or a nameless lambda is given.
    """

    model: str = "policy"
    what: str | Term | Reduce | Callable[..., Any] = "logp"
    context: Callable[[Any], Any] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.what, str):
            if self.what not in NAMED:
                raise UserError(f"need: what={self.what!r} is unknown; give one of {', '.join(NAMED)}, a Reduce or a Term")
        elif not isinstance(self.what, Term | Reduce):
            if not callable(self.what):
                raise UserError(f"need: what={self.what!r} is no name, Reduce, Term or function")
            object.__setattr__(self, "what", Reduce(self.what))
        if self.name is None:
            for fn in (getattr(self.what, "fn", None), self.context):
                if fn is not None and "<lambda>" in _name_of(fn):
                    raise UserError("need: a lambda needs a name, such as Need(what=..., name='novelty')")

    @property
    def kind(self) -> str:
        """ "logp", "entropy", "value", "term" or "reduce"."""
        if isinstance(self.what, str):
            return self.what
        return "term" if isinstance(self.what, Term) else "reduce"

    @property
    def key(self) -> str:
        """Under which the result is found: `name`, or "model.what" ("policy.logp"), with "@context" where there is one."""
        if self.name is not None:
            return self.name
        what = self.what if isinstance(self.what, str) else _name_of(self.what.fn if isinstance(self.what, Term | Reduce) else self.what)
        return f"{self.model}.{what}" + (f"@{_name_of(self.context)}" if self.context is not None else "")


def union(*groups: Iterable[Need]) -> tuple[Need, ...]:
    """All needs once, in order of first mention. UserError where two different needs have the same key."""
    found: dict[str, Need] = {}
    for need in (need for group in groups for need in group):
        known = found.setdefault(need.key, need)
        if known != need:
            raise UserError(f"two different needs share the key {need.key!r}; give one of them another name")
    return tuple(found.values())


def _name_of(fn: Callable[..., Any]) -> str:
    """A function's dotted name; for an object, its class's."""
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"
