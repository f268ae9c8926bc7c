"""Reverse, rotate, shift (Caesar) or dedupe a word: `rev abcd>` -> `dcba`."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.tasks.task import Draft, Task

LETTERS = "abcdefghijklmnopqrstuvwxyz"
OPERATIONS = ("reverse", "rotate", "caesar", "dedupe")


class Strings(Task):
    """One operation on a random word; `mixed` draws a new one for each problem.

    rotate k: the first k letters move to the end. caesar k: every letter moves k places on, z to a.
    dedupe: only the first of equal letters stays.
    """

    name: ClassVar[str] = "strings"
    ask: ClassVar[str] = (
        "Apply the operation to the word: rev reverses it, rot k moves its first k letters to the end, cae k moves every letter "
        "k places on in the alphabet, ded keeps only the first of equal letters. End with a line 'Answer: ...'.\n{question}"
    )

    operation: Literal["reverse", "rotate", "caesar", "dedupe", "mixed"] = Field(default="mixed", description="what is done to the word")
    length: int | None = Field(default=None, description="letters in a word; unset: difficulty + 2")

    def check_fields(self) -> None:
        self.check("length", 2 <= self._length <= 48, "from 2 to 48")

    def draw(self, generator: np.random.Generator) -> Draft:
        operation = str(generator.choice(OPERATIONS)) if self.operation == "mixed" else self.operation
        pool = list(LETTERS)
        if operation == "dedupe":  # a small pool, so that letters repeat
            pool = [str(letter) for letter in generator.choice(pool, size=self._pool, replace=False)]
        word = "".join(generator.choice(pool, size=self._length))
        if operation == "reverse":
            return Draft(f"rev {word}>", word[::-1])
        if operation == "dedupe":
            return Draft(f"ded {word}>", "".join(dict.fromkeys(word)))
        k = int(generator.integers(1, self._length if operation == "rotate" else 26))
        moved = word[k:] + word[:k] if operation == "rotate" else "".join(LETTERS[(LETTERS.index(letter) + k) % 26] for letter in word)
        return Draft(f"{operation[:3]} {k} {word}>", moved)

    def space(self) -> int:
        words = 26**self._length
        m = self._pool
        repeating = math.comb(26, m) * sum((-1) ** k * math.comb(m, k) * (m - k) ** self._length for k in range(m + 1))
        sizes = {"reverse": words, "rotate": words * (self._length - 1), "caesar": words * 25, "dedupe": repeating}
        return sum(sizes.values()) if self.operation == "mixed" else sizes[self.operation]

    @property
    def _length(self) -> int:
        return self.length if self.length is not None else self.difficulty + 2

    @property
    def _pool(self) -> int:
        return min((self._length + 1) // 2, 26)


part = Strings
