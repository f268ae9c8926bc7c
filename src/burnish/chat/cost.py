"""Prices: what an endpoint's tokens cost, from prices per million that the config gives."""

from __future__ import annotations

import math
from collections.abc import Mapping

from burnish.chat.model import Usage
from burnish.runs.errors import UserError, did_you_mean

FIELDS = ("prompt", "completion", "cached")


class Price:
    """prices: {"prompt": ..., "completion": ..., "cached": ...}, each for a million tokens, in one currency.

    cached: for prompt tokens that the server had in its cache; left out, they cost as much as others. Reasoning tokens are completion
    tokens. Raises UserError for unknown names, missing prices and numbers that are none.
    """

    def __init__(self, prices: Mapping[str, float], where: str = "price") -> None:
        for name, value in prices.items():
            if name not in FIELDS:
                raise UserError(f"{where}.{name} is unknown; {did_you_mean(name, FIELDS)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise UserError(f"{where}.{name} is {value!r}; it must be a number of at least 0, for a million tokens")
        for name in ("prompt", "completion"):
            if name not in prices:
                raise UserError(f"{where}.{name} is missing; give both prompt and completion, each for a million tokens")
        self.prompt, self.completion = float(prices["prompt"]), float(prices["completion"])
        self.cached = float(prices.get("cached", self.prompt))

    def of(self, usage: Usage) -> float:
        """The cost of a call, or of several added up."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        fresh = usage.prompt_tokens - cached
        return (fresh * self.prompt + cached * self.cached + usage.completion_tokens * self.completion) / 1e6
