"""Every item once an epoch, each epoch in a new order: a pure function of the seed and of how many were drawn so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum
from burnish.runs.seeds import rng


class ShuffledEpochs(Curriculum):
    """The state is one counter, so a resumed run goes on with the next item."""

    def __init__(self, items: Any):
        super().__init__(items)
        self.drawn = 0
        self._order: tuple[tuple[int, int], np.ndarray] | None = None

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """The next n items; an epoch's end may fall inside."""
        seed = int(state.get("seed", 0))
        out = []
        for number in range(self.drawn, self.drawn + n):
            epoch, place = divmod(number, len(self.items))
            if self._order is None or self._order[0] != (seed, epoch):
                self._order = ((seed, epoch), rng("epoch", seed, epoch).permutation(len(self.items)))
            out.append(self.items[int(self._order[1][place])])
        self.drawn += n
        return out

    def state_dict(self) -> dict[str, Any]:
        """The counter."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.drawn = int(state["drawn"])


part = ShuffledEpochs
