"""Rollout: a list of turns and how it ended. Group: the rollouts of one item with their scores."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from burnish.records.item import Item
from burnish.records.score import Score
from burnish.records.turn import Turn


class StopReason(enum.StrEnum):
    """Every way a turn or a rollout can end."""

    EOS = "eos"  # the model ended it itself
    STOP = "stop"  # a stop string or stop id
    LENGTH = "length"  # max_new_tokens, or the context is full
    TURNS = "turns"  # max_turns
    TERMINATED = "terminated"  # the environment reached its end
    TRUNCATED = "truncated"  # the environment cut it off
    CANCELLED = "cancelled"  # by the caller
    ERROR = "error"  # a tool, environment or agent failed: see Score.invalid


TRUNCATED_STOPS = frozenset({StopReason.LENGTH, StopReason.TURNS, StopReason.TRUNCATED})


@dataclasses.dataclass
class Rollout:
    """One attempt at an item by one agent: for weights and ratios, one "sequence", however many turns it has.

    index: its place inside the item's group. Rollouts of one episode share `episode` and may have a `parent` (an index).
    outcome: what an agent or environment returned; rewards may read it.
    """

    item_id: str
    index: int
    turns: list[Turn]
    stop: StopReason = StopReason.EOS
    agent: str = "policy"
    episode: str | None = None
    parent: int | None = None
    outcome: Any = None

    def __post_init__(self) -> None:
        self.stop = StopReason(self.stop)

    @property
    def truncated(self) -> bool:
        """True where a limit, not the policy or the environment, ended it."""
        return self.stop in TRUNCATED_STOPS

    @property
    def n_loss_tokens(self) -> int:
        """Number of tokens that may be trained on."""
        return int(sum(turn.loss_mask.sum() for turn in self.turns))

    @property
    def output_ids(self) -> list[int]:
        """All output ids of all turns, in order."""
        return [token for turn in self.turns for token in turn.output_ids]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (`outcome` must be JSON itself)."""
        out = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return out | {"turns": [turn.to_dict() for turn in self.turns], "stop": str(self.stop)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Rollout:
        """The inverse of `to_dict`."""
        return cls(**{**data, "turns": [Turn.from_dict(turn) for turn in data["turns"]]})


@dataclasses.dataclass
class Group:
    """All rollouts of one item with their scores, in the order of `Rollout.index`."""

    item: Item
    rollouts: list[Rollout]
    scores: list[Score]

    def __post_init__(self) -> None:
        if len(self.rollouts) != len(self.scores):
            raise ValueError(f"item {self.item.id!r}: {len(self.rollouts)} rollouts but {len(self.scores)} scores")
