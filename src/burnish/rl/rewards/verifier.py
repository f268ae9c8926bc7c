"""A verifier as a reward: a task's scorer, or any function of text and columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from burnish.records import Score, StopReason
from burnish.rl.rewards.errors import broke, function_name, load
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class Verifier:
    """reward = success = what `check(text, columns)` says: True or False, a number, or a Score of its own.

    check: a function, an object with `score(text, columns) -> Score` (a task), or its name ("module:function", "file.py:function").
    name: of its share in `Score.parts`. success_above: a number counts as success at or above this (a task's Score says it itself).
    A rollout that broke (stop "error") is invalid, not wrong. Raises UserError where the check raises or gives no finite number.
    """

    def __init__(self, check: Callable[[str, Mapping[str, Any]], Any] | Any, name: str | None = None, success_above: float = 1.0):
        self.check = load(check)
        self.name = name or (str(getattr(self.check, "name", "")) or function_name(self.check))
        self.success_above = success_above

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        return [self._score(group, place) for place in range(len(group.rollouts))]

    def _score(self, group: Completions, place: int) -> Score:
        if group.rollouts[place].stop == StopReason.ERROR:
            return Score(reward=0.0, invalid=True, extras={"reason": "the rollout ended in an error"})
        judge = getattr(self.check, "score", self.check)
        try:
            found = judge(group.texts[place], group.item.columns)
        except UserError:
            raise
        except Exception as error:
            raise broke(self.name, group.item.id, error) from error
        if isinstance(found, Score):
            return found
        try:
            value = float(found)
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise UserError(
                f"reward {self.name!r} gave {found!r} for item {group.item.id!r}; "
                "a verifier returns True, False, a finite number or a Score"
            )
        return Score(reward=value, success=float(value >= self.success_above), parts={self.name: value})


part = Verifier
