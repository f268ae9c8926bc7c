"""Sums, differences and products of whole numbers: `123+456=` -> `579`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.tasks.task import Draft, Task

NUMBER = re.compile(r"-?[0-9]{1,60}")


class Arithmetic(Task):
    """`terms` numbers of up to `digits` digits joined by one operation, or by a new one each time (`mixed`; products bind first)."""

    name: ClassVar[str] = "arithmetic"
    ask: ClassVar[str] = "Compute the number. End with a line 'Answer: ...'.\n{question}"

    operation: Literal["add", "subtract", "multiply", "mixed"] = Field(default="add", description="what joins the numbers")
    digits: int | None = Field(default=None, description="most digits a number may have; unset: difficulty")
    terms: int = Field(default=2, description="how many numbers")
    reverse_answer: bool = Field(default=False, description="answers are written last digit first (carries then come in reading order)")

    def check_fields(self) -> None:
        self.check("digits", 1 <= self._digits <= 18, "from 1 to 18")
        self.check("terms", 2 <= self.terms <= 8, "from 2 to 8")
        signed = self.operation in ("subtract", "mixed")
        self.check("reverse_answer", not (self.reverse_answer and signed), "false where answers can be negative")
        fits = self._digits * (self.terms if self.operation in ("multiply", "mixed") else 1) <= 55
        self.check("terms", fits, "so small that products stay under 55 digits")

    def draw(self, generator: np.random.Generator) -> Draft:
        numbers = [int(x) for x in generator.integers(0, 10**self._digits, size=self.terms)]
        signs = {"add": "+", "subtract": "-", "multiply": "*", "mixed": "+-*"}[self.operation]
        joins = [str(s) for s in generator.choice(list(signs), size=self.terms - 1)]
        question = str(numbers[0]) + "".join(f"{sign}{number}" for sign, number in zip(joins, numbers[1:]))
        answer = str(_value(numbers, joins))
        return Draft(question + "=", answer[::-1] if self.reverse_answer else answer)

    def space(self) -> int:
        kinds = 3 if self.operation == "mixed" else 1
        return 10 ** (self._digits * self.terms) * kinds ** (self.terms - 1)

    def correct(self, answer: str, columns: Mapping[str, Any]) -> bool:
        gold = columns["answer"]
        if self.reverse_answer:
            answer, gold = answer[::-1], gold[::-1]
        return bool(NUMBER.fullmatch(answer)) and int(answer) == int(gold)

    @property
    def _digits(self) -> int:
        return self.digits if self.digits is not None else self.difficulty


def _value(numbers: list[int], joins: list[str]) -> int:
    """The value with products first."""
    total, factor = 0, numbers[0]
    for sign, number in zip(joins, numbers[1:]):
        if sign == "*":
            factor *= number
        else:
            total += factor
            factor = number if sign == "+" else -number
    return total + factor


part = Arithmetic
