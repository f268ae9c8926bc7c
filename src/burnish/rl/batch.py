"""Batch: the groups of one step on their way from the Source to the Learner, and their form on disk."""

from __future__ import annotations

import dataclasses
from typing import Any

from burnish.records import Group, Item, Limits, Rollout, Score

REPLAYED = "replayed"
"""Key of `Score.extras` of a rollout that was drawn for an earlier batch and joined this one; its age in weight versions."""


@dataclasses.dataclass
class Batch:
    """What the Source hands to the Learner for one step.

    step: number of the learner step that will consume it (1-based).
    version: version of the weights at the time of drawing (updates done so far).
    keep: one flag per group and rollout, set by the filters; what is not kept never reaches the loss.
    metrics: what the Source measured about it.
    """

    step: int
    version: int
    groups: list[Group]
    keep: list[list[bool]] = dataclasses.field(default_factory=list)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.keep:
            self.keep = [[True] * len(group.rollouts) for group in self.groups]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats keep every bit."""
        groups = [group_to_dict(group) for group in self.groups]
        return {"step": self.step, "version": self.version, "groups": groups, "keep": self.keep, "metrics": self.metrics}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Batch:
        """The inverse of `to_dict`."""
        return cls(**{**data, "groups": [group_from_dict(group) for group in data["groups"]]})


def without_replayed(group: Group) -> Group:
    """The group without replayed rollouts: what was drawn for this batch."""
    own = [place for place, score in enumerate(group.scores) if REPLAYED not in score.extras]
    return Group(group.item, [group.rollouts[place] for place in own], [group.scores[place] for place in own])


def group_to_dict(group: Group) -> dict[str, Any]:
    """A group as plain JSON values."""
    item = {field.name: getattr(group.item, field.name) for field in dataclasses.fields(group.item)}
    item |= {"prompt": list(group.item.prompt), "limits": dataclasses.asdict(group.item.limits)}
    return {
        "item": item,
        "rollouts": [rollout.to_dict() for rollout in group.rollouts],
        "scores": [score.to_dict() for score in group.scores],
    }


def group_from_dict(data: dict[str, Any]) -> Group:
    """The inverse of `group_to_dict`."""
    item = Item(**{**data["item"], "limits": Limits(**data["item"]["limits"])})
    rollouts = [Rollout.from_dict(rollout) for rollout in data["rollouts"]]
    return Group(item=item, rollouts=rollouts, scores=[Score.from_dict(score) for score in data["scores"]])
