"""Surrogates without a bound: `linear` and `log`; and the base class of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from burnish.rl.objectives.knob import Knob, Point
from burnish.rl.objectives.tokens import TokenTable


class Surrogate(Knob):
    """Base: `value, clipped = surrogate(point)`: S [k] to be maximised, and bool [k]: where a bound acts (for the clip shares).

    levels: ratio levels it makes sense with. needs_start: True where `prepare` wants log-probs at the update's start.
    """

    levels: ClassVar[tuple[str, ...]] = ("token", "sequence")
    needs_start: ClassVar[bool] = False

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """S and where it is bounded."""
        raise NotImplementedError

    def prepare(self, table: TokenTable, tokens: Mapping[str, Tensor], ref_point: Tensor) -> dict[str, Tensor]:
        """Statistics of the whole optimiser step, as [K] tensors for `Point.mark`; called before the step is cut."""
        return {}


def nowhere(x: Tensor) -> Tensor:
    """False everywhere."""
    return torch.zeros_like(x, dtype=torch.bool)


class Linear(Surrogate):
    """A rho: the off-policy policy gradient."""

    formula: ClassVar = "S = A rho"
    tex: ClassVar = r"S = A\, \rho"
    name: Literal["linear"] = "linear"

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Never bounded."""
        return x.advantage * x.rho, nowhere(x.rho)


class Log(Surrogate):
    """A l: REINFORCE, RLOO on-policy, GPG. Its value is not comparable across steps; `objective/surrogate` is."""

    formula: ClassVar = "S = A l"
    tex: ClassVar = r"S = A\, l"
    levels: ClassVar = ("none",)
    name: Literal["log"] = "log"

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Never bounded."""
        return x.advantage * x.logp, nowhere(x.logp)


parts = {"linear": Linear, "log": Log}
