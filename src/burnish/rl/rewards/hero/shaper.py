"""The shaper `hero`: verified scores in, banded rewards and prompt weights out; what it saw as metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from burnish.models.needs import Need
from burnish.records import Group, Score
from burnish.rl.rewards.hero.bands import Bands, Running, VarianceWeight, agreement, sigma_of
from burnish.rl.rewards.hero.scorer import Scorer
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

SAYS = "hero"
"""Key of `Score.extras` under which each rollout's score, stratum, sigma and weight stand."""


class Scored:
    """Base of the shapers that read a verifier (the rewards before them) and a scorer."""

    def __init__(self, scorer: Any, name: str):
        self.name, self.scorer = name, Scorer(scorer, name)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The scorer's."""
        return self.scorer.needs

    def read(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
        """(right bool [N], score float64 [N]): verified is success where it is known, else the reward, at or above 0.5.

        A rollout whose score is invalid has no score here either, and is never right.
        """
        if len(scores) != len(group.texts):
            raise UserError(f"shaper {self.name}: {len(scores)} scores for the {len(group.texts)} rollouts of item {group.item.id!r}")
        right = [not one.invalid and (one.reward if one.success is None else one.success) >= 0.5 for one in scores]
        found = self.scorer(group, measured)
        return np.array(right, dtype=bool), np.array([math.nan if one.invalid else s for one, s in zip(scores, found)], dtype=np.float64)

    def shaped(self, score: Score, reward: float, raw: float, right: bool, **more: Any) -> Score:
        """The score with another reward; what it is made of stands in parts and extras."""
        says = {"score": raw if math.isfinite(raw) else None, "right": bool(right), **more}
        parts = {**score.parts, self.name: float(reward)} | ({f"{self.name}_score": raw} if math.isfinite(raw) else {})
        return dataclasses.replace(score, reward=float(reward), parts=parts, extras={**score.extras, SAYS: says})


class Hero(Scored):
    """Rewards in two bands that cannot meet, and a weight for the prompt (arXiv 2510.07242).

    scorer: see `Scorer`. alpha, beta, singleton_z, eps: see `Bands`. weight: True for `VarianceWeight` as published, a mapping with its
    fields, or False for none. Strata are formed for each agent, since rollouts of different agents are never compared.

    The weight goes to `Score.prompt_weight`, thus to the advantage after whatever the credit makes of it. A credit that divides by a
    group's own spread or mean would undo the bands (in uniform groups alpha cancels: an all-wrong group would speak as loudly as a mixed
    one), so `cancelled_by` has such objectives refused before anything loads. Rewards at tokens, where a verifier gives some, are left as
    they are and come on top. Missing scores get the middle of the band; they are counted.

    The running mean of sigma moves once for every round that is drawn, after that round's weights; the first round, which has none before
    it, is weighed by its own mean. It is part of the checkpoint.
    Metrics: {name}/sigma, sigma_bar, weight, right and wrong (completions of a group), uniform_right, uniform_wrong (shares of groups),
    agreement (AUROC of the scores on mixed groups), missing (scores).
    """

    cancelled_by: ClassVar[tuple[str, ...]] = ("group_std", "by_group_mean")

    def __init__(
        self,
        scorer: Any = None,
        alpha: float = 0.05,
        beta: float = 0.05,
        weight: bool | Mapping[str, Any] = True,
        singleton_z: float = 0.0,
        eps: float = 1e-6,
        name: str = "hero",
    ):
        super().__init__(scorer, name)
        fields = {"alpha": alpha, "beta": beta, "singleton_z": singleton_z, "eps": eps}
        self.bands = build(Bands, fields, f"shaper {name}")
        wanted = {} if weight is True else weight
        if not isinstance(wanted, Mapping) and wanted is not False:
            raise UserError(f"shaper {name}: weight is {weight!r}; give true, false or a mapping such as {{w_max: 3.0}}")
        self.weight = build(VarianceWeight, dict(wanted), f"shaper {name}: weight") if isinstance(wanted, Mapping) else None
        self.running = Running(self.weight.momentum if self.weight is not None else 0.9)
        self._seen: list[dict[str, float]] = []

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with their reward replaced by its band's and the prompt weight set; invalid ones as they are."""
        right, raw = self.read(group, scores, measured)
        valid = np.array([not one.invalid for one in scores], dtype=bool)
        agents = np.unique([rollout.agent for rollout in group.rollouts], return_inverse=True)[1] if len(scores) else np.zeros(0, int)
        rewards = np.zeros(len(scores))
        rewards[valid] = self.bands.rewards(right[valid], raw[valid], agents[valid])
        sigma = float(np.mean([sigma_of(raw[agents == agent]) for agent in np.unique(agents)])) if len(scores) else 0.0
        factor = None if self.weight is None or self.running.mean is None else self.weight.weight(sigma, self.running)
        out = []
        for place, score in enumerate(scores):
            if score.invalid:
                out.append(score)
                continue
            one = self.shaped(score, rewards[place], raw[place], right[place], sigma=sigma, weight=factor)
            out.append(dataclasses.replace(one, prompt_weight=score.prompt_weight * (1.0 if factor is None else factor)))
        return out

    # --- its life -------------------------------------------------------------------------------------------------------------------------
    def observe(self, batch: Any) -> None:
        """Weighs the groups of the first round, moves the running mean, and takes down the diagnosis."""
        found = [(group, says) for group in batch.groups if len(says := _said(group)) > 0]
        sigmas = [says[0]["sigma"] for _, says in found if sum(one["score"] is not None for one in says) > 1]
        self.running.begin(sigmas)
        for group, says in found:
            if self.weight is not None and says[0]["weight"] is None and self.running.mean is not None:
                _weigh(group, self.weight.weight(says[0]["sigma"], self.running))
            self._seen.append(diagnosis([one["right"] for one in says], [_or_nan(one["score"]) for one in says], says[0]))
        self.running.move(sigmas)

    def metrics(self) -> dict[str, float]:
        """Means over the groups since the last call; a quantity that no group had is left out."""
        out = summary(self._seen)
        if self._seen and self.running.mean is not None:
            out["sigma_bar"] = self.running.mean
        self._seen = []
        return {f"{self.name}/{key}": value for key, value in out.items()}

    def state_dict(self) -> dict[str, Any]:
        """The running mean and variance of sigma."""
        return {"mean": self.running.mean, "variance": self.running.variance}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.running.mean = None if state["mean"] is None else float(state["mean"])
        self.running.variance = float(state["variance"])


def diagnosis(right: Sequence[bool], score: Sequence[float], says: Mapping[str, Any]) -> dict[str, float]:
    """Of one group. says: its sigma and weight (None: not weighed)."""
    n_right = sum(map(bool, right))
    found = {
        "sigma": float(says["sigma"]),
        "right": float(n_right),
        "wrong": float(len(right) - n_right),
        "uniform_right": float(n_right == len(right)),
        "uniform_wrong": float(n_right == 0),
        "missing": float(sum(not math.isfinite(one) for one in score)),
    }
    if says.get("weight") is not None:
        found["weight"] = float(says["weight"])
    rank = agreement(right, score)
    return found if rank is None else {**found, "agreement": rank}


def summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over groups; `missing` is a sum."""
    keys = dict.fromkeys(key for row in rows for key in row)
    out = {}
    for key in keys:
        values = [row[key] for row in rows if key in row]
        out[key] = sum(values) if key == "missing" else sum(values) / len(values)
    return out


def _said(group: Group) -> list[dict[str, Any]]:
    found = [score.extras.get(SAYS) for score in group.scores if not score.invalid]
    return [says for says in found if isinstance(says, dict) and "sigma" in says]


def _weigh(group: Group, weight: float) -> None:
    for score in group.scores:
        if not score.invalid and SAYS in score.extras:
            score.prompt_weight *= weight
            score.extras[SAYS]["weight"] = weight


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
