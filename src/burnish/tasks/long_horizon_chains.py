r"""The last answer of a chain of problems: the number in the last `\boxed{}`, or else the last number. h1 (arXiv 2510.07312)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from burnish.runs.errors import UserError
from burnish.tasks.math import boxed, plain_number

NUMBER = re.compile(r"(?<![\w.])-?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?![\w])")
FRACTION = re.compile(r"\s*(-?)\\d?frac\{([0-9]{1,18})\}\{([0-9]{1,18})\}\s*")
PADDING = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}]*\}|\\[,;! ]|[{}\s]")
MOST = 20_000
"""Characters at the end of a completion that are looked at for a number."""


def final_answer(text: str) -> Fraction | None:
    r"""The exact value, or None. A box counts before bare numbers wherever it stands; of several boxes the last, and no other in its place.

    Units, dollar signs and commas are left out; `\frac{a}{b}` is read.
    """
    inside = boxed(text)
    if inside is not None:
        return _value(inside)
    if "\\boxed{" in text:  # opened and never closed: the answer was not given
        return None
    found = NUMBER.findall(text[-MOST:])
    return plain_number(found[-1]) if found else None


def _value(inside: str) -> Fraction | None:
    match = FRACTION.fullmatch(inside)
    if match is not None:
        below = int(match.group(3))
        return None if below == 0 else Fraction(int(match.group(2)), below) * (-1 if match.group(1) else 1)
    bare = plain_number(PADDING.sub("", inside).replace("\\$", "$").rstrip("%"))
    if bare is not None:
        return bare
    numbers = NUMBER.findall(inside)
    return plain_number(numbers[0]) if len(numbers) == 1 else None  # two numbers in a box are no answer


def is_right(text: str, columns: Mapping[str, Any]) -> bool:
    """Whether the last answer is the column `answer`. Earlier answers do not count. Raises UserError where the column is no number."""
    gold = plain_number(str(columns.get("answer", "")))
    if gold is None:
        raise UserError(f"long_horizon_chains needs a column 'answer' that holds a number; this row has {columns.get('answer')!r}")
    return final_answer(text) == gold
