"""The arithmetic of a chain: y_1 = f_1(x_1), y_{j+1} = f_{j+1}(phi_j(y_j)), and whether y_h depends on every y_j. h1 (arXiv 2510.07312)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Function = Callable[[Fraction], Fraction]
BOUND = 100_000


class Invalid(ValueError):
    """A chain, or a link of it, that must not be used. reason: a word or two, under which it is counted."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Walked:
    """inputs x_j after the adapter, answers y_j; both exact."""

    inputs: tuple[Fraction, ...]
    answers: tuple[Fraction, ...]


def walk(start: Any, functions: Sequence[Function], adapters: Sequence[Function]) -> Walked:
    """The chain from x_1 on; nothing is checked. adapters: one fewer than functions."""
    if len(adapters) != len(functions) - 1:
        raise ValueError(f"{len(functions)} problems need {len(functions) - 1} adapters, not {len(adapters)}")
    inputs, answers = [Fraction(start)], [Fraction(functions[0](Fraction(start)))]
    for function, between in zip(functions[1:], adapters, strict=True):
        inputs.append(Fraction(between(answers[-1])))
        answers.append(Fraction(function(inputs[-1])))
    return Walked(tuple(inputs), tuple(answers))


def refuse(value: Fraction, bound: int = BOUND) -> None:
    """Raises Invalid for an input or an answer that no such problem has: negative, fractional, or larger than the bound."""
    if value < 0:
        raise Invalid("negative")
    if value.denominator != 1:
        raise Invalid("fractional")
    if value > bound:
        raise Invalid("too large")


def depends(answers: Sequence[Fraction], functions: Sequence[Function], adapters: Sequence[Function], by: int = 1) -> list[bool]:
    """For j = 1 ... h - 1: does y_h change where y_j is `by` larger? A problem that breaks (divides by zero) has changed.

    The last problem's answer is carried on through what follows y_j alone. Where any entry is False the chain is shorter than it looks.
    """
    return [_ends(answers[j] + by, functions[j + 1 :], adapters[j:]) != answers[-1] for j in range(len(answers) - 1)]


def depends_naive(start: Any, functions: Sequence[Function], adapters: Sequence[Function], by: int = 1) -> list[bool]:
    """The same, each time from the start with one function that errs."""
    out = []
    truth = walk(start, functions, adapters).answers[-1]
    for j in range(len(functions) - 1):
        erring = list(functions)
        right = functions[j]
        erring[j] = lambda x, right=right: right(x) + by  # type: ignore[misc]
        out.append(walk(start, erring, adapters).answers[-1] != truth)
    return out


def _ends(value: Fraction, functions: Sequence[Function], adapters: Sequence[Function]) -> Fraction | None:
    try:
        for function, between in zip(functions, adapters, strict=True):
            value = Fraction(function(Fraction(between(value))))
    except (Invalid, ArithmeticError):
        return None
    return value
