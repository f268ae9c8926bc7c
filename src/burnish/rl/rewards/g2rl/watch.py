"""What shapers that compare a group's rollouts report: gathered from the scores, so that every rank of a run reports the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Group, Score

COUNTED = ("tiny",)
"""Reported as sums, not as means."""
EPS = 1e-8
"""Under the root of the group's standard deviation."""


class Watch:
    """Base: `observe` gathers what stands in `Score.extras[name]` ("reward" before shaping, "nu", "group"), `metrics` reports it once."""

    def __init__(self, name: str):
        self.name = name
        self._seen: list[Mapping[str, float]] = []
        self._pull: list[tuple[bool, float]] = []

    def observe(self, batch: Any) -> None:
        """A round's groups, with the rewards as they came out of all shapers."""
        for group in batch.groups:
            for scores in _strata(group, self.name):
                says = [score.extras[self.name] for score in scores]
                nus = [one["nu"] for one in says if "nu" in one]
                self._seen.append({**says[0].get("group", {}), **({"nu": sum(nus) / len(nus)} if nus else {})})
                self._pull.append((float(np.ptp([one["reward"] for one in says])) <= 1e-12, absolute_advantage(scores)))

    def metrics(self) -> dict[str, float]:
        """Of the rounds since the last call; nothing where there was no group."""
        seen, pull, self._seen, self._pull = self._seen, self._pull, [], []
        out: dict[str, float] = {}
        for key in dict.fromkeys(key for row in seen for key in row):
            values = [row[key] for row in seen if key in row]
            out[key] = sum(values) if key in COUNTED else sum(values) / len(values)
        if pull:
            total = sum(size for _, size in pull)
            out["uniform_share"] = sum(size for uniform, size in pull if uniform) / total if total else 0.0
        return {f"{self.name}/{key}": float(value) for key, value in out.items()}


def absolute_advantage(scores: Sequence[Score]) -> float:
    """Sum of |A| with A = (R - mean) / sqrt(variance + 1e-8), R a rollout's reward and token rewards together."""
    returns = np.array([score.reward + (0.0 if score.token_rewards is None else float(np.sum(score.token_rewards))) for score in scores])
    centred = returns - returns.mean()
    return float(np.abs(centred).sum() / math.sqrt(float(np.square(centred).mean()) + EPS))


def _strata(group: Group, name: str) -> list[list[Score]]:
    """The valid scores that the shaper spoke of, by agent."""
    found: dict[str, list[Score]] = {}
    for rollout, score in zip(group.rollouts, group.scores, strict=True):
        if not score.invalid and name in score.extras:
            found.setdefault(rollout.agent, []).append(score)
    return list(found.values())
