"""Surrogates that bound the ratio: PPO's clip, CISPO, GMPO, SAPO's gate, DPPO's mask. Table "3. Surrogate" of the catalogue."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.objectives.knob import Point
from burnish.rl.objectives.surrogates.plain import Surrogate


class PPOClip(Surrogate):
    """min(A rho, A clip(rho, 1 - clip_low, 1 + clip_high)); for A < 0 not below dual * A; rho first bounded by delta.

    dual: 3 in verl, 10 in DAPO's scripts. delta: INTELLECT-2's two-sided bound (4), which acts for A < 0 too.
    """

    formula: ClassVar = "S = min(A rho, A clip(rho, 1 - {clip_low}, 1 + {clip_high}))"
    tex: ClassVar = r"S = \min(A \rho,\, A\, \mathrm{clip}(\rho,\, 1 - <clip_low>,\, 1 + <clip_high>))"
    name: Literal["ppo_clip"] = "ppo_clip"
    clip_low: float = Field(0.2, ge=0, description="1 - clip_low is the lower bound of the ratio")
    clip_high: float = Field(0.2, ge=0, description="1 + clip_high is the upper bound of the ratio")
    dual: float | None = Field(None, gt=1, description="dual clip: for A < 0 the surrogate is not below dual * A")
    delta: float | None = Field(None, gt=1, description="two-sided clip: the ratio is bounded by delta whatever the sign of A")

    def describe(self) -> str:
        """With the optional bounds in use."""
        text = super().describe()
        text = text if self.dual is None else f"{text}; A < 0: max(that, {self.dual} A)"
        return text if self.delta is None else f"{text}; rho <= {self.delta} before"

    def latex(self) -> str:
        """With the optional bounds in use."""
        text = super().latex()
        text += "" if self.dual is None else self.fill(r"; \quad A < 0:\ S \leftarrow \max(S,\, <dual> A)")
        return text if self.delta is None else text + self.fill(r"; \quad \rho \leq <delta>")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Bounded where the clipped branch is the smaller one, or where dual or delta acts."""
        rho = x.rho if self.delta is None else x.rho.clamp(max=self.delta)
        plain, bounded = x.advantage * rho, x.advantage * rho.clamp(1 - self.clip_low, 1 + self.clip_high)
        value, clipped = torch.minimum(plain, bounded), bounded < plain
        if self.delta is not None:
            clipped = clipped | (x.rho > self.delta)
        if self.dual is not None:
            floor = self.dual * x.advantage
            acts = (x.advantage < 0) & (floor > value)
            value, clipped = torch.where(acts, floor, value), clipped | acts
        return value, clipped


class Cispo(Surrogate):
    """sg(clip(rho, min_ratio, max_ratio)) A l: every token keeps its gradient, its weight is bounded. Bounds are absolute, not 1 + eps."""

    formula: ClassVar = "S = sg(clip(rho, {min_ratio}, {max_ratio})) A l"
    tex: ClassVar = r"S = \mathrm{sg}[\mathrm{clip}(\rho,\, <min_ratio>,\, <max_ratio>)]\, A\, l"
    name: Literal["cispo"] = "cispo"
    min_ratio: float = Field(0.0, ge=0, description="lower bound of the ratio")
    max_ratio: float = Field(5.0, gt=0, description="upper bound of the ratio")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Bounded where the ratio leaves [min_ratio, max_ratio]."""
        rho = x.rho.detach()
        bounded = rho.clamp(self.min_ratio, self.max_ratio)
        return bounded * x.advantage * x.logp, bounded != rho


class Gmpo(Surrogate):
    """A exp(mean_t of the clipped log-ratios): for A > 0 min(d, clip(d, -lo, hi)), for A < 0 max of the two. One term for each rollout."""

    formula: ClassVar = "S = A exp(mean_t m(d_t, clip(d_t, -{clip_low}, {clip_high}))), m = min for A > 0, max for A < 0"
    tex: ClassVar = (
        r"S = A \exp \left( \frac{1}{L_i} \sum_t m(d_t,\, \mathrm{clip}(d_t,\, -<clip_low>,\, <clip_high>)) \right), "
        r"\quad m = \min\ (A > 0),\ \max\ (A < 0)"
    )
    levels: ClassVar = ("geometric",)
    name: Literal["gmpo"] = "gmpo"
    clip_low: float = Field(0.4, ge=0, description="lower bound in log space")
    clip_high: float = Field(0.4, ge=0, description="upper bound in log space")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Broadcast over the rollout, so that `sequence_mean` makes it one term."""
        bounded = x.log_ratio.clamp(-self.clip_low, self.clip_high)
        kept = torch.where(x.advantage > 0, torch.minimum(x.log_ratio, bounded), torch.maximum(x.log_ratio, bounded))
        return x.advantage * x.table.spread(x.table.mean(kept).exp()), kept != x.log_ratio


class SoftGate(Surrogate):
    """A (4 / tau) sigmoid(tau (rho - 1)), tau by the sign of A (SAPO): a smooth fall-off instead of a clip."""

    formula: ClassVar = "S = A (4 / tau) sigmoid(tau (rho - 1)), tau = {tau_positive} for A > 0, {tau_negative} else"
    tex: ClassVar = r"S = A \frac{4}{\tau} \sigma(\tau (\rho - 1)), \quad \tau = <tau_positive>\ (A > 0),\ <tau_negative>\ (A \leq 0)"
    name: Literal["soft_gate"] = "soft_gate"
    tau_positive: float = Field(1.0, gt=0, description="temperature for A > 0")
    tau_negative: float = Field(1.05, gt=0, description="temperature for A <= 0")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Never bounded: the gradient fades."""
        tau = torch.full_like(x.rho, self.tau_negative).masked_fill(x.advantage > 0, self.tau_positive)
        return x.advantage * (4 / tau) * torch.sigmoid(tau * (x.rho - 1)), torch.zeros_like(x.rho, dtype=torch.bool)


class ProbMask(Surrogate):
    """A rho, but zero where the probability has moved too far from the sampler's in the direction A pushes (DPPO)."""

    formula: ClassVar = "S = A rho; 0 where p - p_b > {high} and A > 0, or p - p_b < -{low} and A < 0"
    tex: ClassVar = r"S = A \rho\, (1 - [A > 0,\, p - p_b > <high>] - [A < 0,\, p - p_b < -<low>])"
    name: Literal["prob_mask"] = "prob_mask"
    low: float = Field(0.2, ge=0, description="largest fall of the probability that still learns, for A < 0")
    high: float = Field(0.2, ge=0, description="largest rise of the probability that still learns, for A > 0")

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """p and p_b are the probabilities of the sampled token now and at sampling."""
        moved = x.logp.detach().exp() - x.sampler.exp()
        dropped = ((moved > self.high) & (x.advantage > 0)) | ((moved < -self.low) & (x.advantage < 0))
        return torch.where(dropped, torch.zeros_like(x.rho), x.advantage * x.rho), dropped


parts = {"ppo_clip": PPOClip, "cispo": Cispo, "gmpo": Gmpo, "soft_gate": SoftGate, "prob_mask": ProbMask}
