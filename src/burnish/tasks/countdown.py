"""Make a target from given numbers, each used once: `3 7 12 5:28=` -> `(12-5)*(7-3)`; every right expression counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from burnish.runs.errors import UserError
from burnish.tasks.expressions import BadExpression, evaluate
from burnish.tasks.task import Draft, Task

TARGETS_PER_HAND = 5
"""A cautious count of the targets that one hand of four numbers reaches (signed sums alone give about eight)."""


class Countdown(Task):
    """The target is reached by a random expression, so an answer always exists. Brackets are allowed; `/` only where the config says so."""

    name: ClassVar[str] = "countdown"
    ask: ClassVar[str] = (
        "Write an expression that uses each of the numbers before the colon exactly once and equals the number after it. "
        "End with a line 'Answer: ...'.\n{question}"
    )

    count: int | None = Field(default=None, description="how many numbers; unset: 1 + difficulty, at most 6")
    largest: int = Field(default=25, description="numbers go from 1 to this")
    most: int = Field(default=100, description="targets go from 1 to this")
    operators: str = Field(default="+-*", description="which of + - * / may be used")

    def check_fields(self) -> None:
        self.check("count", 2 <= self._count <= 8, "from 2 to 8")
        self.check("largest", 2 <= self.largest <= 999, "from 2 to 999")
        self.check("most", self.most >= self.largest, f"at least largest ({self.largest})")
        fine = bool(self.operators) and set(self.operators) <= set("+-*/") and len(set(self.operators)) == len(self.operators)
        self.check("operators", fine, "some of + - * /, each once")
        self.check("operators", "+" in self.operators, "such that + is among them")
        if self.operators == "+":
            middle = self._count * self.largest // 2
            self.check("most", self.most >= middle, f"at least count * largest / 2 ({middle})")

    def draw(self, generator: np.random.Generator) -> Draft:
        for _ in range(10_000):
            numbers = [int(x) for x in generator.integers(1, self.largest + 1, size=self._count)]
            made = self._combine(numbers, generator)
            if made is not None and 1 <= made[0] <= self.most:
                break
        else:
            problem = f"almost no expression of {self._count} numbers stays from 1 to it"
            raise UserError(f"task {self.name}: most is {self.most}; {problem}: raise it")
        hand = " ".join(map(str, numbers))
        key = " ".join(map(str, sorted(numbers))) + f":{made[0]}"
        return Draft(f"{hand}:{made[0]}=", made[1], {"numbers": numbers, "target": made[0]}, key)

    def space(self) -> int:
        return math.comb(self.largest + self._count - 1, self._count) * min(TARGETS_PER_HAND, len(self.operators) ** (self._count - 1))

    def correct(self, answer: str, columns: Mapping[str, Any]) -> bool:
        if not set(answer) <= set(self.operators + "()0123456789 "):
            return False
        try:
            value, used = evaluate(answer)
        except BadExpression:
            return False
        return value == columns["target"] and sorted(used) == sorted(columns["numbers"])

    def _combine(self, numbers: list[int], generator: np.random.Generator) -> tuple[int, str] | None:
        """Joins random pairs until one value is left: (value, expression), or None where a division is not exact."""
        pool = [(number, str(number), "9") for number in numbers]  # value, text, its loosest operator ("9" for a bare number)
        while len(pool) > 1:
            i, other, which = (int(x) for x in generator.integers(0, (len(pool), len(pool) - 1, len(self.operators))))
            j = other + (other >= i)  # a second place, never the first
            operator = self.operators[which]
            (a, left, left_loose), (b, right, right_loose) = pool[i], pool[j]
            if operator == "/" and (b == 0 or a % b):
                return None
            value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[operator]
            left = f"({left})" if operator in "*/" and left_loose in "+-" else left
            right = f"({right})" if _needs_brackets(operator, right_loose) else right
            pool = [entry for at, entry in enumerate(pool) if at not in (i, j)] + [(value, left + operator + right, operator)]
        return pool[0][0], pool[0][1]

    @property
    def _count(self) -> int:
        return self.count if self.count is not None else min(1 + self.difficulty, 6)


def _needs_brackets(operator: str, right: str) -> bool:
    """Whether a right operand made with `right` needs brackets behind `operator`."""
    return (operator in "*/" and right in "+-") or (operator == "/" and right in "*/") or (operator == "-" and right in "+-")


part = Countdown
