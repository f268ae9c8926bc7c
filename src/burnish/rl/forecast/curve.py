"""The curves: pass rate against compute as a saturating curve, and as a power law for control. ScaleRL (arXiv 2510.13786), equation 1."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B).

    r0: pass rate before RL. a: the ceiling, reached with unlimited compute. c_mid: compute at which half of the gain is reached.
    b: how steeply it rises (its efficiency).
    """

    r0: float
    a: float
    c_mid: float
    b: float

    def __call__(self, compute: Any) -> Any:
        """Pass rate at this compute (a number or an array); r0 at 0."""
        c = np.asarray(compute, dtype=np.float64)
        with np.errstate(divide="ignore"):
            x = self.b * (np.log(c) - np.log(self.c_mid))
        out = self.r0 + (self.a - self.r0) * logistic(x)
        return out if out.ndim else float(out)

    @property
    def d(self) -> float:
        """The tail's factor: for C much larger than C_mid the curve is close to A - D / C^B, with D = (A - R0) C_mid^B."""
        return (self.a - self.r0) * self.c_mid**self.b

    def tail(self, compute: Any) -> Any:
        """A - D / C^B."""
        return self.a - self.d / np.asarray(compute, dtype=np.float64) ** self.b

    def efficiency(self, rate: Any) -> Any:
        """F(R) = C_mid^B / ((A - R0)/(R - R0) - 1), which is C^B: against C on two logarithmic axes a line of slope B.

        NaN where R does not lie between R0 and A.
        """
        gain = np.asarray(rate, dtype=np.float64) - self.r0
        with np.errstate(divide="ignore", invalid="ignore"):
            out = self.c_mid**self.b / ((self.a - self.r0) / gain - 1.0)
        return np.where((gain > 0) & (gain < self.a - self.r0), out, np.nan)

    def to_dict(self) -> dict[str, float]:
        """Plain numbers."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """A - D / C^B: the control that knows no start."""

    a: float
    d: float
    b: float

    def __call__(self, compute: Any) -> Any:
        """Pass rate at this compute."""
        out = self.a - self.d / np.asarray(compute, dtype=np.float64) ** self.b
        return out if out.ndim else float(out)


def logistic(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
