"""A task (or anything with `score(text, columns)`) as a reward of the RL loop and of evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from burnish.records import Item, Limits, Score, StopReason
from burnish.tasks.completions import Completions
from burnish.tasks.task import Problem


class Scorer(Protocol):
    """What a task brings to a reward."""

    def score(self, completion: str, columns: Mapping[str, Any]) -> Score:
        """The Score of one completion; never raises for odd text."""


@dataclasses.dataclass(frozen=True)
class TaskReward:
    """Scores every rollout of a group by its text and the item's columns. A rollout that broke (stop "error") is invalid, not wrong."""

    task: Scorer
    name: str = "task"
    needs: tuple[Any, ...] = ()

    def __call__(self, group: Completions, measured: dict[str, Any] | None = None) -> list[Score]:
        """One Score per rollout, in order: reward, success and parts as the task gives them."""
        scores = []
        for rollout, text in zip(group.rollouts, group.texts, strict=True):
            if rollout.stop == StopReason.ERROR:
                scores.append(Score(reward=0.0, invalid=True, extras={"reason": "the rollout ended in an error"}))
            else:
                scores.append(self.task.score(text, group.item.columns))
        return scores


def reward(task: Scorer) -> TaskReward:
    """The reward of a task: `reward(group, measured) -> list[Score]`."""
    return TaskReward(task, name=str(getattr(task, "name", "task")))


def to_items(
    problems: list[Problem], encode: Callable[[str], list[int]] | None = None, group_size: int = 1, limits: Limits | None = None
) -> list[Item]:
    """Items of problems. encode: text -> token ids (`policy.encode`); None: the prompt becomes one user message."""
    return [
        Item(
            id=problem.id,
            prompt=encode(problem.prompt) if encode else [{"role": "user", "content": problem.prompt}],
            group_size=group_size,
            limits=limits or Limits(),
            columns=problem.scored_columns(),
        )
        for problem in problems
    ]
