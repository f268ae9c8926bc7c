"""The small types around the loop: what a part, a mover and a tracker must offer, and what the loop gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol


class Stateful(Protocol):
    """A part with a life: nested dicts of JSON values, tensors and numpy arrays out and in."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


class Mover(Protocol):
    """Moves the groups the rule (or `names`) says, then forgets all gradients; gives their metrics."""

    def __call__(self, names: Collection[str] | None = None) -> dict[str, float]: ...


StepFn = Callable[[int, Mover], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class LoopResult:
    """stopped: "done" (all steps), "patience" (early stopping) or "stop_check" (asked to; may be resumed)."""

    step: int
    stopped: str
    best_step: int | None = None
    best_value: float | None = None


@dataclasses.dataclass
class Progress:
    """What the loop itself carries over a kill."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    bad_evals: int = 0
    stopped: str | None = None
