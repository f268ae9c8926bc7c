"""Every item equally likely, with replacement: a pure function of seed, step and round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum
from burnish.runs.seeds import rng


class Uniform(Curriculum):
    """Draws with replacement; the same step draws the same items whatever happened before."""

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items, repeats possible."""
        generator = rng("uniform", int(state.get("seed", 0)), int(state["step"]), int(state.get("round", 0)))
        return [self.items[place] for place in generator.integers(len(self.items), size=n)]


part = Uniform
