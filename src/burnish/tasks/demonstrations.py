"""Demonstrations by a careless teacher: what supervised training on imperfect answers has to learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from burnish.runs.seeds import rng
from burnish.tasks.task import Problem


def careless(problems: Sequence[Problem], slips: float, seed: int = 0) -> list[Problem]:
    """The same problems, a share `slips` of them answered with two neighbouring characters swapped.

    A slip between equal characters leaves the answer right. Which problems slip, and where, depends on `seed` and the problem's id alone.
    The result is for writing demonstrations (`Problem.row`); score with the problems as they were.
    Raises ValueError where `slips` lies outside [0, 1].
    """
    if not 0 <= slips <= 1:
        raise ValueError(f"slips is {slips}; it must be from 0 to 1")
    return [dataclasses.replace(problem, answer=_slipped(problem, slips, seed)) for problem in problems]


def _slipped(problem: Problem, slips: float, seed: int) -> str:
    generator = rng("careless", seed, problem.id)
    text = problem.answer
    if len(text) < 2 or generator.random() >= slips:
        return text
    at = int(generator.integers(0, len(text) - 1))
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
