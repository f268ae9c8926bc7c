"""KL to the reference: estimator, place and gradient in one knob, and its adaptive coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from burnish.models.needs import Need, Reduce, Term
from burnish.rl.objectives.formula import number
from burnish.rl.objectives.knob import LIMIT, REFERENCE
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

    estimator: k1 = d; k2 = d^2 / 2; k3 = exp(-d) - 1 + d; abs = |d|. "k3+" is k3 with gradient "k2". "full": no estimate but the sum over
    the vocabulary at each token, with its own gradient; it costs a forward pass of the reference for each micro-batch, whose hidden
    states ([k, d]) are kept for it, and the reference's logits once in the forward and once in the backward pass, chunk by chunk.
    place: "loss"; "reward": beta * estimate of the start policy taken from the token rewards before credit; "advantage": the same after it.
    gradient: "own", or "k2": value of the estimator, gradient of k2 (the right one for the reverse KL).
    times_rho: multiply the loss term by the ratio, gradient included (off-policy samples).
    Raises ValueError for k1 as a loss term: its expected gradient is 0.
    """

    beta: float = Field(0.0, ge=0, description="coefficient; 0: no KL, and no reference model")
    estimator: Literal["k1", "k2", "k3", "abs", "full"] = Field("k3", description="on sampled tokens, or full; k3+: k3 with gradient k2")
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
        if self.estimator == "full" and self.gradient == "k2":
            raise ValueError("kl: the full KL has its own exact gradient; leave out gradient k2, or choose k3")
        return self

    @property
    def active(self) -> bool:
        """True where a reference model is needed."""
        return self.beta > 0

    @property
    def need(self) -> Need:
        """What it reads: the reference's log-probs, or for "full" a vocabulary term."""
        return FULL if self.estimator == "full" else REFERENCE

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
        where = "" if self.estimator == "full" else f", d = {'l' if self.place == 'loss' else 'l_o'} - l_ref"
        return f"{self.beta} * {_FORMULA[self.estimator]}{gradient}{rho}{where}, {_PLACE[self.place]}{adaptive}"

    def latex(self) -> str:
        """K in the loss, or what is taken from rewards or advantages; "" where there is none."""
        if not self.active:
            return ""
        now = "l" if self.place == "loss" else "l_o"
        where = "" if self.estimator == "full" else rf", \quad d = {now} - l_{{\mathrm{{ref}}}}"
        rho = r"\rho\, " if self.times_rho else ""
        note = r"\quad (\nabla K = d\, \nabla l)" if self.gradient == "k2" and self.place == "loss" else ""
        target = {
            "loss": "K = ",
            "reward": rf"r_t \leftarrow r_t - {number(self.beta)}\, ",
            "advantage": rf"A_t \leftarrow A_t - {number(self.beta)}\, ",
        }
        left, right = ("(", ")") if self.estimator == "k3" and (rho or self.place != "loss") else ("", "")
        return target[self.place] + rho + left + _TEX[self.estimator] + right + where + note


_FORMULA = {"k1": "d", "k2": "d^2/2", "k3": "(exp(-d) - 1 + d)", "abs": "|d|", "full": "sum_v p(v) (log p(v) - log p_ref(v))"}

_TEX = {
    "k1": "d",
    "k2": r"\frac{1}{2} d^2",
    "k3": "e^{-d} - 1 + d",
    "abs": "|d|",
    "full": r"\sum_v p(v) \log \frac{p(v)}{p_{\mathrm{ref}}(v)}",
}

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


def hidden_states(hidden: Tensor, head: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """[C, d]: a model's final hidden states, for `full_kl`."""
    return hidden


def full_kl(logits: Tensor, ids: Tensor, extras: Mapping[str, Any]) -> Tensor:
    """A vocabulary term: logits [C, V] at the temperature -> [C]. extras: what `Measurer` gives a Term with `given`."""
    other = extras["heads"][HIDDEN.key].logits(extras[HIDDEN.key]).to(logits)
    return full(logits, other / extras["temperature"].to(logits.dtype).to(logits.device)[:, None])


HIDDEN = Need(model="reference", what=Reduce(hidden_states), name="reference.hidden")
FULL = Need(what=Term(full_kl, given=(HIDDEN,)), name="policy.kl_full")
