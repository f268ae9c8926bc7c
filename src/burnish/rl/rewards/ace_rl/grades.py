"""Grades: three of them, what each is worth, and how one is read from a judge's answer. ACE-RL (arXiv 2509.04903), section on R_C."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from burnish.data.ace_rl.checklist import Requirement
from burnish.rl.rewards.judging import last_value
from burnish.runs.config import Config

Grade = Literal["fully met", "partially met", "not met"]
GRADES: tuple[Grade, ...] = ("fully met", "partially met", "not met")


class GradeTable(Config):
    """What each grade is worth."""

    full: float = Field(1.0, ge=0, le=1, description="fully met")
    partial: float = Field(0.5, ge=0, le=1, description="partially met")
    none: float = Field(0.0, ge=0, le=1, description="not met")

    @model_validator(mode="after")
    def _ordered(self) -> GradeTable:
        if not self.full >= self.partial >= self.none:
            raise ValueError(f"the grades are worth {self.full}, {self.partial} and {self.none}; a better grade must not be worth less")
        return self

    def value(self, grade: str) -> float:
        """Of one grade."""
        return {"fully met": self.full, "partially met": self.partial, "not met": self.none}[grade]


def read_grade(text: str) -> Grade:
    """The grade that an answer ends with: one of the three names alone on its last line, or {"grade": name} there.

    Raises ValueError where it is neither: a grade is never guessed from a sentence.
    """
    found = last_value(text)
    said = found.get("grade") if isinstance(found, dict) else None
    if said is None:
        lines = [line for line in text.splitlines() if line.strip()]
        said = lines[-1] if lines else ""
    plain = re.sub(r"^(?:grade|answer|verdict)\s*:\s*", "", str(said).strip(" \t*_`\"'.").lower()).strip(" *_`\"'.")
    for grade in GRADES:
        if plain == grade:
            return grade
    raise ValueError(f"no grade in the answer that ends {' '.join(text.split())[-80:]!r}")


def grade_of(said: Any) -> Grade:
    """The grade that a judge in Python returned: its name, or 1, 0.5 or 0. Raises ValueError for anything else."""
    if isinstance(said, str):
        return read_grade(said)
    number = float(said) if isinstance(said, (bool, int, float, np.floating, np.integer)) else math.nan
    for value, grade in ((1.0, GRADES[0]), (0.5, GRADES[1]), (0.0, GRADES[2])):
        if number == value:
            return grade
    raise ValueError(f"{json.dumps(said, default=str)} is no grade; a judge returns one of {', '.join(GRADES)}, or 1, 0.5, 0")


def satisfaction(values: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """R_C: float64 [texts], the (weighted) mean of the items' worths [texts, items]. NaN (no grade) makes a text's NaN."""
    shares = np.ones(values.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    return np.asarray(values, dtype=np.float64) @ (shares / shares.sum())


def satisfaction_naive(grades: Sequence[Sequence[str]], table: GradeTable, weights: Sequence[float] | None = None) -> list[float]:
    """The same, text by text: the oracle of `satisfaction`."""
    out = []
    for row in grades:
        shares = [1.0] * len(row) if weights is None else list(weights)
        out.append(sum(share * table.value(grade) for share, grade in zip(shares, row)) / sum(shares))
    return out


def chosen(items: Sequence[Requirement], share: float) -> list[bool]:
    """Which items are held out of the reward: those marked so, and of the others the share, by a hash of theirs: the same in every run.

    At least one item always stays in the reward; where a share is asked for and there are two, at least one is held out.
    """
    import hashlib

    flags = [bool(item.held_out) for item in items]
    free = [place for place, item in enumerate(items) if item.held_out is None]
    if share > 0 and free:
        order = sorted(free, key=lambda place: hashlib.blake2b(items[place].key.encode(), digest_size=8).digest())
        wanted = max(1, math.floor(share * len(items) + 0.5)) - sum(flags)
        for place in order[: max(0, min(wanted, len(items) - 1 - sum(flags)))]:
            flags[place] = True
    return flags


def by_dimension(items: Sequence[Requirement], values: Mapping[int, float]) -> dict[str, float]:
    """Mean worth of each dimension's items that have a value (place in the checklist -> value)."""
    found: dict[str, list[float]] = {}
    for place, value in values.items():
        found.setdefault(items[place].dimension, []).append(value)
    return {name: sum(one) / len(one) for name, one in found.items()}
