"""The critic: generalised advantage estimation from its values, and its own loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from burnish.models.needs import Need
from burnish.rl.credit.steps import Draft, Step, at_last_token, measured, to_go
from burnish.rl.objectives.tokens import TokenTable

VALUE = Need(model="critic", what="value")
TARGET = "value_target"
"""Key of `Advantages.value_target` among the tokens of a step."""


class ValueHead(nn.Module):
    """hidden [K, d] -> value [K], in float32 at least; it starts at 0 everywhere."""

    def __init__(self, width: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None):
        super().__init__()
        self.linear = nn.Linear(width, 1, dtype=torch.promote_types(dtype, torch.float32), device=device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The values."""
        return self.linear(hidden.to(self.linear.weight.dtype))[:, 0]


class Critic(Step):
    """d_t = r_t + gamma V_(t+1) - V_t, A_t = sum_k (gamma lam)^k d_(t+k) over loss tokens (PPO); the critic learns A + V.

    length_alpha: VAPO's lam = 1 - 1/(length_alpha L) for a rollout of L loss tokens, instead of `lam` (arXiv 2504.05118, length-adaptive
    estimation). value_lam: another lambda for the critic's target alone (1 in VC-PPO and VAPO: the plain return); unset: the same.
    Values are those at the update's start, measured without gradient; what the critic then learns from is `token_loss`.
    """

    kind: ClassVar = "baseline"
    formula: ClassVar = "A_t = sum_k ({gamma} * {lam})^k d_(t+k), d_t = r_t + {gamma} V_(t+1) - V_t"
    tex: ClassVar = r"A_t = \sum_{k \geq 0} (<gamma> \cdot <lam>)^k d_{t+k}, \quad d_t = r_t + <gamma>\, V_{t+1} - V_t"
    name: Literal["critic"] = "critic"
    gamma: float = Field(1.0, ge=0, le=1, description="discount")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of generalised advantage estimation")
    length_alpha: float | None = Field(None, gt=0, description="lam = 1 - 1/(length_alpha L) instead of lam; 0.05 in VAPO")
    value_lam: float | None = Field(None, ge=0, le=1, description="lambda of the critic's target; unset: the same as the policy's")
    value_clip: float | None = Field(0.2, gt=0, description="bound on the move of a value inside the loss; none: no bound")

    def needs(self) -> tuple[Need, ...]:
        """The critic's values at the update's start."""
        return (VALUE,)

    def grad_needs(self) -> tuple[Need, ...]:
        """The critic's values now."""
        return (VALUE,)

    def describe(self) -> str:
        """With the lambdas in use and the critic's loss."""
        text = self.formula.format(gamma=self.gamma, lam=self.lam if self.length_alpha is None else "lam")
        text += "" if self.length_alpha is None else f", lam = 1 - 1/({self.length_alpha} L)"
        target = "R = A + V" if self.value_lam is None else f"R = A + V with lambda {self.value_lam}"
        bound = "" if self.value_clip is None else f", (clip(V, V_old +- {self.value_clip}) - R)^2"
        return f"{text}; critic's loss 0.5 {'max(' if bound else ''}(V - R)^2{bound}{')' if bound else ''}, {target}"

    def latex(self) -> str:
        """The same; V_o: the value at the update's start."""
        tex = self.tex
        if self.length_alpha is not None:
            tex = tex.replace("<lam>", r"\lambda") + r", \quad \lambda = 1 - \frac{1}{<length_alpha> L}"
        loss = "(V - R)^2"
        if self.value_clip is not None:
            loss = rf"\max({loss}, (\mathrm{{clip}}(V, V_o - <value_clip>, V_o + <value_clip>) - R)^2)"
        target = r"R = A + V_o" + ("" if self.value_lam is None else r" \mathrm{~with~} \lambda = <value_lam>")
        return self.fill(tex + rf", \quad \mathcal{{L}}_V = \frac{{1}}{{2}} {loss}, \quad {target}")

    def __call__(self, draft: Draft) -> Draft:
        """Token advantages from token rewards and values."""
        table = draft.batch.table
        values = measured(draft, VALUE.key, self.name)
        rewards = draft.dense + at_last_token(table, draft.terminal)
        following = torch.cat([values[1:], values.new_zeros(1)])[: len(values)]
        following = torch.where(table.from_end() == 0, torch.zeros_like(values), following)
        lam: float | Tensor = self.lam
        if self.length_alpha is not None:
            lam = (1 - 1 / (self.length_alpha * table.lengths.clamp(min=1).double())).clamp(min=0)
        steps = rewards + self.gamma * following - values
        tokens = to_go(table, steps, self.gamma * lam)
        learned = tokens if self.value_lam is None else to_go(table, steps, self.gamma * self.value_lam)
        return dataclasses.replace(draft, tokens=tokens, value_target=learned + values)

    def token_loss(self, table: TokenTable, scored: Mapping[str, Tensor], tokens: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss [k] of a slice, weighted like the policy's tokens, and detached tensors for metrics (means by token)."""
        value, old, target = scored[VALUE.key], tokens[VALUE.key], tokens[TARGET]
        loss = value_loss(value, old.to(value), target.to(value), self.value_clip)
        return loss, {"value/error": (value - target.to(value)).detach().square(), "value/mean": value.detach(), "value/target": target}


def value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float | None = 0.2) -> Tensor:
    """[K] -> [K]: 0.5 max((V - R)^2, (clip(V, V_old +- clip) - R)^2), to be weighted like the policy's tokens.

    value: V, with gradient. old: V at the update's start. target: R = A + V, `Advantages.value_target`. clip: None for the plain square.
    """
    plain = (value - target).square()
    if clip is None:
        return 0.5 * plain
    bounded = old + (value - old).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (bounded - target).square())


parts = {"critic": Critic}
