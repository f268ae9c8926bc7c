"""Sort a row of letters or digits: `dkbaf>` -> `abdfk`."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.tasks.task import Draft, Task

SYMBOLS = {"letters": "abcdefghijklmnopqrstuvwxyz", "digits": "0123456789"}


class Sort(Task):
    """Any multiset of symbols in order; repeated symbols stay repeated unless `distinct`."""

    name: ClassVar[str] = "sort"
    ask: ClassVar[str] = "Sort these symbols and write them without spaces. End with a line 'Answer: ...'.\n{question}"

    symbols: Literal["letters", "digits"] = Field(default="letters", description="what is sorted")
    length: int | None = Field(default=None, description="symbols in a row; unset: difficulty + 2")
    kinds: int | None = Field(default=None, description="use only the first so many symbols; unset: all")
    distinct: bool = Field(default=False, description="no symbol twice")
    descending: bool = Field(default=False, description="largest first")

    def check_fields(self) -> None:
        most = len(SYMBOLS[self.symbols])
        self.check("kinds", self.kinds is None or 2 <= self.kinds <= most, f"from 2 to {most} for {self.symbols}")
        self.check("length", 2 <= self._length <= 64, "from 2 to 64")
        if self.distinct:
            self.check("length", self._length <= self._kinds, f"at most kinds ({self._kinds}) where the symbols are distinct")

    def draw(self, generator: np.random.Generator) -> Draft:
        picked = generator.choice(list(SYMBOLS[self.symbols][: self._kinds]), size=self._length, replace=not self.distinct)
        return Draft("".join(picked) + ">", "".join(sorted(picked, reverse=self.descending)))

    def space(self) -> int:
        return math.perm(self._kinds, self._length) if self.distinct else self._kinds**self._length

    @property
    def _length(self) -> int:
        return self.length if self.length is not None else self.difficulty + 2

    @property
    def _kinds(self) -> int:
        return self.kinds if self.kinds is not None else len(SYMBOLS[self.symbols])


part = Sort
