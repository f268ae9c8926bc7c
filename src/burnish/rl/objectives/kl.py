"""KL to the reference: estimator, place and gradient in one knob; adaptive coefficient; and the entropy bonus."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from burnish.rl.objectives.knob import LIMIT
from burnish.runs.config import Config


class AdaptiveBeta(Config):
    """beta <- beta (1 + clip(kl / target - 1, -0.2, 0.2) n / horizon) after each update with n rollouts."""

    target: float = Field(6.0, gt=0, description="KL aimed at, in the unit of what is observed (nats per token)")
    horizon: float = Field(10000.0, gt=0, description="rollouts over which beta follows")

    def next(self, beta: float, kl: float, n: int) -> float:
        """The coefficient after an update."""
        return beta * (1 + min(max(kl / self.target - 1, -0.2), 0.2) * n / self.horizon)


class KL(Config):
    """beta times an estimate of KL(policy || reference) on sampled tokens, d = l - l_ref.

    estimator: k1 = d; k2 = d^2 / 2; k3 = exp(-d) - 1 + d; abs = |d|. "k3+" is k3 with gradient "k2".
    place: "loss"; "reward": beta * estimate of the start policy taken from the token rewards before credit; "advantage": the same after it.
    gradient: "own", or "k2": value of the estimator, gradient of k2 (the right one for the reverse KL).
    times_rho: multiply the loss term by the ratio, gradient included (off-policy samples).
    Raises ValueError for k1 as a loss term: its expected gradient is 0.
    """

    beta: float = Field(0.0, ge=0, description="coefficient; 0: no KL, and no reference model")
    estimator: Literal["k1", "k2", "k3", "abs"] = Field("k3", description="estimate on sampled tokens; k3+ = k3 with gradient k2")
    place: Literal["loss", "reward", "advantage"] = Field("loss", description="where it enters")
    gradient: Literal["own", "k2"] = Field("own", description="whose gradient a loss term has")
    times_rho: bool = Field(False, description="multiply the loss term by the ratio")
    adaptive: AdaptiveBeta | None = Field(None, description="move beta towards a target KL")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("estimator") == "k3+":
            return {**data, "estimator": "k3", "gradient": "k2"}
        return data

    @model_validator(mode="after")
    def _sensible(self) -> KL:
        if self.estimator == "k1" and self.place == "loss" and self.gradient == "own" and not self.times_rho and self.active:
            raise ValueError("kl: k1 as a loss term has an expected gradient of zero; use k3 or k2, or place it in the reward")
        if self.times_rho and self.place != "loss":
            raise ValueError(f"kl: times_rho belongs to place 'loss', not {self.place!r}")
        return self

    @property
    def active(self) -> bool:
        """True where a reference model is needed."""
        return self.beta > 0

    def value(self, logp: Tensor, reference: Tensor) -> Tensor:
        """The estimate by token, with its gradient; d is clamped to +-20 for k3, which would overflow."""
        own = estimate(self.estimator, logp - reference)
        if self.gradient == "own":
            return own
        k2 = estimate("k2", logp - reference)
        return own.detach() + k2 - k2.detach()

    def describe(self) -> str:
        """What is added or taken, and where."""
        if not self.active:
            return "none"
        gradient = "" if self.gradient == "own" or self.place != "loss" else " (gradient of k2)"
        rho = " * rho" if self.times_rho else ""
        adaptive = f", adaptive to {self.adaptive.target}" if self.adaptive else ""
        return f"{self.beta} * {_FORMULA[self.estimator]}{gradient}{rho}, d = l - l_ref, {_PLACE[self.place]}{adaptive}"


_FORMULA = {"k1": "d", "k2": "d^2/2", "k3": "(exp(-d) - 1 + d)", "abs": "|d|"}

_PLACE = {"loss": "+ in the loss", "reward": "- in the token rewards, before credit", "advantage": "- in the advantages, after credit"}


def estimate(kind: str, d: Tensor) -> Tensor:
    """k1, k2, k3 or abs of log-ratios d of samples from the first of the two distributions."""
    if kind == "k1":
        return d
    if kind == "k2":
        return d.square() / 2
    if kind == "abs":
        return d.abs()
    bounded = d.clamp(-LIMIT, LIMIT)
    return torch.exp(-bounded) - 1 + bounded


def full(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """[C, V], [C, V] -> [C]: the KL summed over the vocabulary, differentiable in the first; what a vocabulary term computes."""
    logp = torch.log_softmax(logits, -1)
    difference = logp - torch.log_softmax(reference_logits, -1)
    return torch.where(logp == -torch.inf, torch.zeros_like(logp), logp.exp() * difference).sum(-1)


class Entropy(Config):
    """- eta * H in the loss. measure: have the entropy computed for the metrics even where eta is 0 (it costs no backward pass)."""

    eta: float = Field(0.0, description="coefficient of the entropy bonus")
    measure: bool = Field(True, description="measure the entropy for the metrics")

    def describe(self) -> str:
        """The term, or none."""
        return f"- {self.eta} * H" if self.eta else "none"
