"""What the knobs of an objective share: their base class, how one is made from a name, and what a surrogate or correction sees."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from burnish.models.needs import Need
from burnish.rl.objectives.formula import Formula
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.parts import make

LOGP = Need(what="logp")
ENTROPY = Need(what="entropy")
REFERENCE = Need(model="reference", what="logp")
SAMPLE_LOGP = "sample_logp"
"""Key of the sampler's log-probs among the tokens of a step."""
LIMIT = 20.0
"""Log-ratios are clamped to +-20 before exp; outside the gradient is 0."""


class Knob(Formula):
    """One value of one knob: a frozen config with its own parameters and nothing else."""


def maker(package: str) -> Callable[[Any], Any]:
    """spec (name, mapping or object) -> the knob value of this package; a class stands for its defaults."""

    def from_spec(spec: Any) -> Any:
        made = make(package, spec)
        return made() if inspect.isclass(made) else made

    return from_spec


@dataclasses.dataclass(frozen=True)
class Plan:
    """Statistics of a whole optimiser step, fixed before it is cut into slices.

    table: of the whole step. weights: float64 [K]. tokens: the step's flat tensors. beta, eta: KL and entropy coefficients of this step.
    marks: what the surrogate prepared ([K] tensors, read at a slice's `index`).
    """

    table: TokenTable
    weights: Tensor
    tokens: Mapping[str, Tensor]
    beta: float = 0.0
    eta: float = 0.0
    marks: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Point:
    """The kept tokens of one slice (whole rollouts); every tensor [k].

    logp: l, with gradient. start: l_o, the update's start policy. sampler: l_b, recorded by the sampler. ref_point: the one of the two
    that the ratio is taken against. log_ratio: l - ref_point, clamped, by token. rho: the ratio at the knob's level.
    advantage: A. table: segments of the slice. index: places in the step's flat order, for `plan.marks`.
    """

    logp: Tensor
    start: Tensor
    sampler: Tensor
    ref_point: Tensor
    log_ratio: Tensor
    rho: Tensor
    advantage: Tensor
    table: TokenTable
    plan: Plan
    index: Tensor

    def mark(self, name: str) -> Tensor:
        """What the surrogate prepared for these tokens."""
        return self.plan.marks[name].to(self.index.device)[self.index]


def clamped(log_ratio: Tensor) -> Tensor:
    """Within +-20."""
    return log_ratio.clamp(-LIMIT, LIMIT)


def current_logp(tokens: Mapping[str, Tensor]) -> Tensor:
    """l at the update's start, for statistics of the whole step: measured where it was, else the sampler's."""
    found = next(tokens[key] for key in ("current.logp", LOGP.key, SAMPLE_LOGP) if key in tokens)
    return found.detach().to(torch.float64)
