"""State tracking: things under cups, cups swapped one pair after the other: `dabce 12 34>` -> `adcbe`."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import Field

from burnish.tasks.task import Draft, Task


class Cups(Task):
    """`cups` letters in a row in random order; each move swaps two places, counted from 1. The answer is the row at the end."""

    name: ClassVar[str] = "cups"
    ask: ClassVar[str] = (
        "The letters stand in a row; each pair of digits swaps the letters at these two places, counted from 1. "
        "Write the row after the last swap. End with a line 'Answer: ...'.\n{question}"
    )

    cups: int | None = Field(default=None, description="cups in the row; unset: difficulty + 2, at most 9")
    moves: int | None = Field(default=None, description="swaps; unset: difficulty")

    def check_fields(self) -> None:
        self.check("cups", 2 <= self._cups <= 9, "from 2 to 9")
        self.check("moves", 1 <= self._moves <= 64, "from 1 to 64")

    def draw(self, generator: np.random.Generator) -> Draft:
        row = list("abcdefghi"[: self._cups])
        generator.shuffle(row)
        question = "".join(row)
        for _ in range(self._moves):
            i, other = (int(x) for x in generator.integers(0, (self._cups, self._cups - 1)))
            i, j = sorted((i, other + (other >= i)))
            row[i], row[j] = row[j], row[i]
            question += f" {i + 1}{j + 1}"
        return Draft(question + ">", "".join(row))

    def space(self) -> int:
        return math.factorial(self._cups) * math.comb(self._cups, 2) ** self._moves

    @property
    def _cups(self) -> int:
        return self.cups if self.cups is not None else min(self.difficulty + 2, 9)

    @property
    def _moves(self) -> int:
        return self.moves if self.moves is not None else self.difficulty


part = Cups
