"""HERO's arithmetic: bands for right and wrong, the spread of a prompt's scores, its weight. float64 throughout.

"Hybrid Reinforcement: When Reward Is Sparse, Better to Be Dense", arXiv 2510.07242: stratified normalisation and variance-aware weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from burnish.runs.config import Config


class Bands(Config):
    """Where rewards lie: wrong completions in [-alpha, alpha], right ones in [1 - beta, 1 + beta].

    Defaults are for data that the verifier covers well; 0.1 (up to 0.2) for data that it covers badly. 0 makes a band a point (the paper's
    ablations). Raises ValueError where alpha + beta >= 1, for then a wrong completion could outrank a right one.
    """

    alpha: float = Field(0.05, ge=0, le=1, description="half the width of the wrong completions' band")
    beta: float = Field(0.05, ge=0, le=1, description="half the width of the right completions' band")
    singleton_z: float = Field(
        0.0, ge=0, le=1, description="place in the band where all scores of a stratum are equal: 0 its floor, 0.5 its middle"
    )
    eps: float = Field(1e-6, gt=0, description="guards the division by the stratum's range")

    @model_validator(mode="after")
    def _ordered(self) -> Bands:
        if self.alpha + self.beta >= 1:
            raise ValueError(
                f"alpha {self.alpha} + beta {self.beta} must stay below 1, or a wrong completion could get more than a right one; lower one"
            )
        return self

    def rewards(self, right: Any, score: Any, group: Any = None) -> np.ndarray:
        """float64 [N]: the reward of each completion before the prompt's weight.

        right: bool [N]. score: [N], NaN or infinite where it is missing: such a completion gets the middle of its band and takes no part
        in its stratum's range. group: int [N], the strata are formed inside each; None: one group.
        """
        right, score = np.asarray(right, dtype=bool), np.asarray(score, dtype=np.float64)
        known = np.isfinite(score)
        strata = 2 * (np.zeros(len(right), dtype=np.int64) if group is None else np.unique(group, return_inverse=True)[1]) + right
        size = int(strata.max()) + 1 if len(strata) else 0
        low, high = np.full(size, math.inf), np.full(size, -math.inf)
        np.minimum.at(low, strata[known], score[known])
        np.maximum.at(high, strata[known], score[known])
        z = np.full(len(right), 0.5)
        spread = high[strata[known]] - low[strata[known]]
        z[known] = np.where(spread > 0, (score[known] - low[strata[known]]) / (spread + self.eps), self.singleton_z)
        return np.where(right, (1 - self.beta) + 2 * self.beta * z, -self.alpha + 2 * self.alpha * z)

    def rewards_naive(self, right: Sequence[bool], score: Sequence[float], group: Sequence[int] | None = None) -> list[float]:
        """The same, completion by completion: the oracle of `rewards`."""
        groups = [0] * len(right) if group is None else list(group)
        out = []
        for mine, own, place in zip(right, score, groups):
            peers = [s for r, s, g in zip(right, score, groups) if g == place and bool(r) == bool(mine) and math.isfinite(s)]
            if not math.isfinite(own):
                z = 0.5
            elif max(peers) == min(peers):
                z = self.singleton_z
            else:
                z = (own - min(peers)) / (max(peers) - min(peers) + self.eps)
            out.append((1 - self.beta) + 2 * self.beta * z if mine else -self.alpha + 2 * self.alpha * z)
        return out


class VarianceWeight(Config):
    """w = w_min + (w_max - w_min) sigmoid(k (sigma - sigma_bar)): prompts on whose completions the scores disagree weigh more.

    sigma is the population standard deviation of a prompt's raw scores, sigma_bar its running mean before the batch. Defaults are those of
    the paper's main text; its appendix has 0.4, 3.0 and 6.
    unit "score": k acts on raw score units, as published; with scores that span tens the weight is then a two-level switch. "std": the
    difference is divided by sigma's own running standard deviation, which makes k independent of the scorer's scale.
    """

    w_min: float = Field(0.5, ge=0, description="weight of prompts whose scores agree")
    w_max: float = Field(2.0, gt=0, description="weight of prompts whose scores disagree")
    k: float = Field(5.0, ge=0, description="steepness between them")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the running mean that stays with each batch")
    unit: Literal["score", "std"] = Field("score", description="what sigma is measured in")

    @model_validator(mode="after")
    def _ordered(self) -> VarianceWeight:
        if self.w_min > self.w_max:
            raise ValueError(f"w_min {self.w_min} is above w_max {self.w_max}; exchange them")
        return self

    def weight(self, sigma: float, running: Running) -> float:
        """Of a prompt. running: as it stood before the batch."""
        assert running.mean is not None
        gap = sigma - running.mean
        if self.unit == "std":
            gap = gap / math.sqrt(running.variance) if running.variance > 0 else 0.0
        x = self.k * gap
        share = 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)) if x > -700 else 0.0
        return self.w_min + (self.w_max - self.w_min) * share


class Running:
    """The running mean (and variance) of sigma: begun with the first batch's own, then moved by each batch's."""

    def __init__(self, momentum: float, mean: float | None = None, variance: float = 0.0):
        self.momentum, self.mean, self.variance = momentum, mean, variance

    def begin(self, sigmas: Sequence[float]) -> None:
        """Where nothing is known yet: the batch's own mean and variance."""
        if self.mean is None and sigmas:
            self.mean, self.variance = float(np.mean(sigmas)), float(np.var(sigmas))

    def move(self, sigmas: Sequence[float]) -> None:
        """After a batch's weights were given."""
        self.begin(sigmas)
        if self.mean is None or not sigmas:
            return
        old, rest = self.mean, 1 - self.momentum
        self.variance = self.momentum * self.variance + rest * float(np.mean((np.asarray(sigmas) - old) ** 2))
        self.mean = self.momentum * old + rest * float(np.mean(sigmas))


def sigma_of(score: Any) -> float:
    """Population standard deviation of the scores that are there; 0 for fewer than two."""
    found = np.asarray(score, dtype=np.float64)
    found = found[np.isfinite(found)]
    return float(found.std()) if len(found) > 1 else 0.0


def agreement(right: Sequence[bool], score: Sequence[float]) -> float | None:
    """AUROC of the scores on one group: the chance that a right completion outscores a wrong one, ties half. None where it is not mixed."""
    pairs = [(bool(r), float(s)) for r, s in zip(right, score) if math.isfinite(s)]
    good, bad = [s for r, s in pairs if r], [s for r, s in pairs if not r]
    if not good or not bad:
        return None
    wins = sum((a > b) + 0.5 * (a == b) for a in good for b in bad)
    return wins / (len(good) * len(bad))


def ranks(score: Any) -> np.ndarray:
    """float64 [N] in [0, 1]: 0 for the lowest score, 1 for the highest, equal scores share the mean place; 0.5 where missing or alone."""
    score = np.asarray(score, dtype=np.float64)
    known = np.isfinite(score)
    out = np.full(len(score), 0.5)
    values = score[known]
    if len(values) > 1:
        below = (values[:, None] > values[None, :]).sum(1) + 0.5 * ((values[:, None] == values[None, :]).sum(1) - 1)
        out[known] = below / (len(values) - 1)
    return out
