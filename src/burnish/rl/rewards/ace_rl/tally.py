"""Tally: what the rewards of a step looked like: satisfaction by dimension, spread inside groups, groups without any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.data.ace_rl.checklist import Requirement
from burnish.records import Score


class Tally:
    """Sums since the last `take`."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, label: str, items: Sequence[Requirement], scores: Sequence[Score]) -> None:
        """One group's scores."""
        valid = [score for score in scores if not score.invalid]
        self._note("invalid", [float(score.invalid) for score in scores])
        facts: list[dict[str, Any]] = [score.extras[label] for score in valid]
        self._note("empty", [float("empty" in one) for one in facts])
        self._note("cut", [float(one["truncated"]) for one in facts])
        self._note("texts_that_repeat_items", [float(one.get("repeats", 0) > 0) for one in facts])
        for one in facts:
            for name, value in one.get("dimensions", {}).items():
                self._note(f"dimension/{name.replace(' ', '_')}", [value])
            if one["target"]:
                self._note("length_error", [abs(one["length"] / one["target"] - 1)])
        if len(valid) > 1:
            for name in ("checklist", "length"):
                self._note(f"std_{name}", [spread([score.parts[f"{label}/{name}"] for score in valid])])
            rewards = [score.reward for score in valid]
            self._note("std", [spread(rewards)])
            self._note("zero_variance", [float(max(rewards) - min(rewards) < 1e-12)])

    def _note(self, name: str, values: Sequence[float]) -> None:
        self.values.setdefault(name, []).extend(values)

    def take(self) -> dict[str, float]:
        """Means since the last call."""
        out = {name: float(np.mean(values)) for name, values in self.values.items() if values}
        self.values = {}
        return out


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation (N - 1), as the paper's framework has it; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
