"""Rewards the form of a completion: a regular expression or a predicate on its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from burnish.records import Score
from burnish.rl.rewards.errors import broke, load
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class Format:
    """`value` where the text has the form, else 0; says nothing of success.

    pattern: a regular expression (dot matches newlines). match: "full" for the whole stripped text, "search" for anywhere in it.
    predicate: a function text -> bool instead, or its name. Raises UserError unless exactly one of the two is given.
    """

    def __init__(
        self,
        pattern: str | None = None,
        predicate: Callable[[str], Any] | str | None = None,
        match: Literal["full", "search"] = "full",
        value: float = 1.0,
        name: str = "format",
    ):
        if (pattern is None) == (predicate is None):
            raise UserError("reward format: give either pattern or predicate")
        if match not in ("full", "search"):
            raise UserError(f"reward format: match is {match!r}; it must be 'full' or 'search'")
        try:
            self.pattern = None if pattern is None else re.compile(pattern, re.DOTALL)
        except re.error as error:
            raise UserError(f"reward format: pattern {pattern!r} is no regular expression: {error}") from None
        self.predicate, self.match, self.value, self.name = load(predicate), match, float(value), name

    def fits(self, text: str) -> bool:
        """Whether a text has the form."""
        if self.pattern is None:
            return bool(self.predicate(text))
        return bool(self.pattern.fullmatch(text.strip()) if self.match == "full" else self.pattern.search(text))

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        scores = []
        for text in group.texts:
            try:
                reward = self.value * self.fits(text)
            except Exception as error:
                raise broke(self.name, group.item.id, error) from error
            scores.append(Score(reward=reward, parts={self.name: reward}))
        return scores


part = Format
