"""Adapters: what stands between the answer of one problem and the next: identity, times, plus, minus, modulo, units. h1 (arXiv 2510.07312).

An adapter maps an exact number to an exact number, and says in words what it does. It is written as text: "identity", "times 3", "plus 5",
"minus 10", "modulo 20" (bounded: 0 to 19), "hours to minutes".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from burnish.runs.errors import UserError, did_you_mean

UNITS = {
    ("hours", "minutes"): Fraction(60),
    ("minutes", "seconds"): Fraction(60),
    ("days", "hours"): Fraction(24),
    ("weeks", "days"): Fraction(7),
    ("years", "months"): Fraction(12),
    ("feet", "inches"): Fraction(12),
    ("yards", "feet"): Fraction(3),
    ("meters", "centimeters"): Fraction(100),
    ("dollars", "cents"): Fraction(100),
    ("dozens", "pieces"): Fraction(12),
}
"""How many of the second make one of the first; the other way round they divide."""

_NUMBERED = re.compile(r"(times|plus|minus|modulo) ([0-9]{1,9})")
_UNITS = re.compile(r"([a-z]+) to ([a-z]+)")
KINDS = ("identity", "times K", "plus K", "minus K", "modulo K", "UNITS to UNITS")


@dataclasses.dataclass(frozen=True)
class Adapter:
    """text: how it is written. words: what it makes of the answer called `{y}`. apply: exact."""

    text: str
    words: str
    apply: Callable[[Fraction], Fraction]

    def said(self, name: str) -> str:
        """In words, for an answer of that name."""
        return self.words.replace("{y}", name)


def adapter(text: str) -> Adapter:
    """The adapter written so. Raises UserError naming the nearest."""
    spelled = " ".join(text.split()).lower()
    if spelled == "identity":
        return Adapter(spelled, "{y}", lambda y: y)
    if (match := _NUMBERED.fullmatch(spelled)) is not None:
        kind, number = match.group(1), int(match.group(2))
        if number == 0 and kind in ("times", "modulo"):
            raise UserError(f"adapter {text!r} forgets the answer; take a number of at least {1 if kind == 'times' else 2}")
        made: dict[str, tuple[str, Callable[[Fraction], Fraction]]] = {
            "times": (f"{{y}} times {number}", lambda y: y * number),
            "plus": (f"{{y}} plus {number}", lambda y: y + number),
            "minus": (f"{{y}} minus {number}", lambda y: y - number),
            "modulo": (f"the remainder of {{y}} divided by {number}", lambda y: y % number),
        }
        return Adapter(spelled, *made[kind])
    if (match := _UNITS.fullmatch(spelled)) is not None:
        return _units(text, match.group(1), match.group(2))
    raise UserError(f"unknown adapter {text!r}; {did_you_mean(spelled, KINDS)}")


def _units(text: str, one: str, other: str) -> Adapter:
    factor = UNITS.get((one, other)) or (1 / UNITS[other, one] if (other, one) in UNITS else None)
    if factor is None:
        known = [f"{a} to {b}" for a, b in UNITS]
        raise UserError(f"adapter {text!r}: the units are not known; {did_you_mean(f'{one} to {other}', known)}")
    return Adapter(f"{one} to {other}", f"the number of {other} in {{y}} {one}", lambda y: y * factor)


DEFAULT = ("identity", "times 2", "times 3", "plus 5", "plus 12", "minus 3", "modulo 20", "hours to minutes", "days to hours")


def adapters(texts: Sequence[str] = DEFAULT) -> tuple[Adapter, ...]:
    """Several. Raises UserError, also for none."""
    if not texts:
        raise UserError(f"no adapter is given; name some of {', '.join(KINDS)}")
    return tuple(adapter(text) for text in texts)


def draw(among: Sequence[Adapter], generator: np.random.Generator) -> Adapter:
    """One of them, equally likely."""
    return among[int(generator.integers(len(among)))]
