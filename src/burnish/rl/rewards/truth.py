"""The verifier behind a reward that does not use one: unsupervised rewards report its verdict as `Score.success`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.records import Rollout, StopReason
from burnish.rl.rewards.weighted import make_reward, reward_name
from burnish.runs.parts import names
from burnish.tasks.completions import Completions, checked_scores


class Truth:
    """spec: a reward as anywhere (name, mapping, function, object), or the bare name of a task; None: success is not known."""

    def __init__(self, spec: Any = None):
        if isinstance(spec, str) and spec in names("burnish.tasks"):
            spec = {"name": "task", "task": spec}
        self.reward = None if spec is None else make_reward(spec)

    @property
    def needs(self) -> tuple[Any, ...]:
        """What the verifier wants measured."""
        return tuple(getattr(self.reward, "needs", ()))

    def successes(self, group: Completions, measured: Mapping[str, Any] | None) -> list[float | None]:
        """One for each rollout; None where it is not known (no verifier, or an invalid verdict)."""
        if self.reward is None:
            return [None] * len(group.rollouts)
        found = checked_scores(reward_name(self.reward), self.reward(group, measured or {}), group.item.id, group.rollouts)
        return [None if score.invalid else score.success for score in found]


def broken(rollout: Rollout) -> bool:
    """A rollout that ended in an error: its score is invalid, whatever it says."""
    return rollout.stop == StopReason.ERROR
