"""Atomic problems: a question, its annotated solution as steps, and which number of the question may be replaced.

A number may be replaced where the solution follows it without doubt: it stands once in the question and once in the solution, no earlier
result equals it, no word of the question brings the same number in ("dozen", "week"), and every other number of the solution is in the
question, is an earlier result, or is a usual constant. The truth for another number is then the solution executed again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from burnish.data.long_horizon_chains.chain import BOUND, Invalid, refuse

Executor = Callable[[str], Any]
"""The value of an arithmetic expression, or a tuple that begins with it; raises ValueError where there is none."""

MARK = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
PLAIN = re.compile(r"[-+]?\$?([0-9]{1,3}(,[0-9]{3})+|[0-9]+)?(\.[0-9]+)?")
TOKEN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?%?|\.[0-9]+%?|[-+*/()])")
NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+")
REPLACEABLE = re.compile(r"(?<![\w.,/:%-])(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?![\w/:%-]|[.,][0-9]|\s*(?:%|percent|st\b|nd\b|rd\b|th\b))")
CONSTANTS = frozenset(Fraction(n) for n in (1, 2, 3, 4, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000)) | {Fraction(1, 2), Fraction(1, 4)}
BROUGHT = {
    2: "twice half halves double both pair couple two",
    3: "third thirds thrice triple three",
    4: "quarter quarters fourth quadruple four",
    5: "fifth fifths five nickel",
    6: "six sixth",
    7: "week weeks weekly seven",
    8: "eight eighth",
    10: "ten tenth dime",
    12: "dozen dozens year years month months foot feet twelve",
    24: "day days daily hour hours",
    30: "month months",
    52: "week weeks year years",
    60: "hour hours minute minutes second seconds",
    100: "percent cent cents dollar dollars hundred meter meters",
    365: "year years day days",
}
"""Words with which a solution may use a number that is not written."""
SPREAD = 20
"""A replaced number is at most so many times as large, or as small, as the one that stood there."""


@dataclasses.dataclass(frozen=True)
class Slot:
    """A number of the question at [start, end). program: the tokens of each step: text, "x" for the number, or a step's index."""

    start: int
    end: int
    value: Fraction
    program: tuple[tuple[str | int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Problem:
    """question and answer as given; results: of the annotated steps. slots: () where the solution is a mere number, or cannot be followed.

    why: the reason why there is no slot.
    """

    id: str
    question: str
    answer: Fraction
    results: tuple[Fraction, ...] = ()
    slots: tuple[Slot, ...] = ()
    why: str = ""

    @property
    def key(self) -> str:
        """The same for problems that differ in their numbers or in spacing alone: 16 hex digits."""
        text = " ".join(NUMBER.sub("#", self.question.lower()).split())
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def with_number(self, slot: Slot, text: str) -> str:
        """The question with something else in a slot."""
        return self.question[: slot.start] + text + self.question[slot.end :]


def execute(executor: Executor, text: str) -> Fraction:
    """Raises Invalid where the expression has no value."""
    try:
        found = executor(text)
        return Fraction(found[0] if isinstance(found, tuple) else found)
    except (ValueError, ArithmeticError, RecursionError):
        raise Invalid("no value") from None


def results_for(slot: Slot, x: Fraction, executor: Executor) -> list[Fraction]:
    """The results of all steps with x in the slot, unchecked; the last one is the answer. Raises Invalid where a step has no value."""
    out: list[Fraction] = []
    for step in slot.program:
        values = [x if token == "x" else out[token] if isinstance(token, int) else token for token in step]
        out.append(execute(executor, " ".join(token if isinstance(token, str) else _written(token) for token in values)))
    return out


def solve(problem: Problem, slot: Slot, x: Fraction, executor: Executor, bound: int = BOUND) -> Fraction:
    """The answer for x, or Invalid with its reason: negative, fractional or too large, in the number, on the way or in the answer (on the
    way only where the original is not), absurd (none, or more than 20 times larger or smaller than what stood there), no value."""
    refuse(x, bound)
    if x < 1 or x > SPREAD * slot.value or x * SPREAD < slot.value:
        raise Invalid("absurd")
    found = results_for(slot, x, executor)
    for new, old in zip(found, problem.results):
        if new < 0 <= old:
            raise Invalid("negative")
        if new.denominator != 1 and old.denominator == 1:
            raise Invalid("fractional")
        if abs(new) > bound:
            raise Invalid("too large")
    refuse(found[-1], bound)
    return found[-1]


def read(name: str, question: str, solution: Any, executor: Executor, answer: Any = None) -> Problem:
    """The problem of a row. solution: a number, an expression, lines `48/2 = 24`, or GSM8K's text with `<<48/2=24>>` and `#### 72`.

    answer: the answer where a column of its own holds it. Raises Invalid where no number can be read or the steps do not add up.
    """
    text = str(solution).strip()
    after = text.rsplit("####", 1)[1].strip() if "####" in text else None
    gold = number(str(answer)) if answer is not None else number(after) if after is not None else number(text)
    if (answer is not None or after is not None) and gold is None:
        raise Invalid("the answer is no number")
    if number(text) is not None:
        return Problem(name, question, gold if gold is not None else Fraction(0), why="the solution is a mere number")
    steps = _steps(text)
    if not steps:
        if gold is None:
            raise Invalid("no solution can be read")
        return Problem(name, question, gold, why="the solution has no annotated step")
    tokens = [_tokens(left) for left, _ in steps]
    results = tuple(execute(executor, " ".join(one)) for one in tokens)
    for result, (_, right) in zip(results, steps):
        if right is not None and number(right) != result:
            raise Invalid("the steps do not add up")
    last = max((place for place, result in enumerate(results) if gold is None or result == gold), default=None)
    if last is None:
        raise Invalid("the steps do not lead to the answer")
    tokens, results = tokens[: last + 1], results[: last + 1]
    slots, why = _slots(question, tokens, results)
    return Problem(name, question, results[-1], results, slots, "" if slots else why)


def number(text: str) -> Fraction | None:
    """The exact value of a bare decimal number (commas, a sign and a dollar sign allowed), or None."""
    stripped = text.strip().replace("$", "").rstrip(".")
    if len(stripped) > 40 or not stripped or not PLAIN.fullmatch(stripped) or not any(c.isdigit() for c in stripped):
        return None
    return Fraction(stripped.replace(",", ""))


def _steps(text: str) -> list[tuple[str, str | None]]:
    """(expression, stated result) of each step."""
    marks = MARK.findall(text)
    if marks or "####" in text:
        return [(left, right) for left, right in marks]
    lines = [line for line in re.split(r"[\n;]", text) if line.strip()]
    out: list[tuple[str, str | None]] = []
    for line in lines:
        left, equals, right = line.partition("=")
        out.append((left, right if equals else None))
    return out


def _tokens(expression: str) -> list[str]:
    """Numbers as exact quotients in brackets, operators and brackets. Raises Invalid for anything else."""
    text, out, at = expression.replace("$", "").replace(",", "").strip(), [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise Invalid("a step is no arithmetic")
        out.append(match.group(1))
        at = match.end()
    return [_written(_value(one)) if _is_number(one) else one for one in out]


def _is_number(token: str) -> bool:
    return token[-1].isdigit() or token.endswith("%")


def _value(token: str) -> Fraction:
    return Fraction(token[:-1]) / 100 if token.endswith("%") else Fraction(token)


def _written(value: Fraction) -> str:
    """As the executor reads it; a negative or broken number in brackets."""
    if value.denominator == 1:
        return str(value.numerator) if value >= 0 else f"({value.numerator})"
    return f"({value.numerator}/{value.denominator})"


@functools.lru_cache(maxsize=4096)
def _literal(token: str) -> Fraction | None:
    """The value of a token that `_written` made, or None for an operator."""
    bare = token.strip("()")
    return Fraction(bare) if bare and bare[-1].isdigit() else None


def _slots(question: str, steps: Sequence[Sequence[str]], results: Sequence[Fraction]) -> tuple[tuple[Slot, ...], str]:
    """All numbers that may be replaced; with none the reason, of the last one tried."""
    written = [Fraction(one.replace(",", "")) for one in NUMBER.findall(question)]
    found, why = [], "the question has no whole number that stands alone"
    for match in REPLACEABLE.finditer(question):
        value = Fraction(match.group().replace(",", ""))
        if value < 1 or written.count(value) != 1:
            why = "its numbers stand there twice"
            continue
        if value.denominator == 1 and _brought(question, int(value)):
            why = "a word may stand for the number"
            continue
        try:
            program = _linked(value, written, steps, results)
        except Invalid as error:
            why = error.reason
            continue
        found.append(Slot(match.start(), match.end(), value, program))
    return tuple(found), why


def _brought(question: str, value: int) -> bool:
    words = set(BROUGHT.get(value, "").split())
    return bool(words & set(re.findall(r"[a-z]+", question.lower())))


def _linked(
    value: Fraction, written: Sequence[Fraction], steps: Sequence[Sequence[str]], results: Sequence[Fraction]
) -> tuple[tuple[str | int, ...], ...]:
    """The steps with the number as "x" and results of earlier steps by their index. Raises Invalid where a reading is not sure."""
    if [_literal(token) for step in steps for token in step].count(value) != 1:
        raise Invalid("the solution uses the number not exactly once")
    moved: list[bool] = []  # does the result of the step depend on the number?
    program: list[tuple[str | int, ...]] = []
    for step in steps:
        out: list[str | int] = []
        for token in step:
            out.append(_link(token, value, written, results[: len(program)], moved))
        program.append(tuple(out))
        moved.append(any(token == "x" or (isinstance(token, int) and moved[token]) for token in out))
    if not moved[-1]:
        raise Invalid("the answer does not depend on the number")
    return tuple(program)


def _link(token: str, value: Fraction, written: Sequence[Fraction], earlier: Sequence[Fraction], moved: Sequence[bool]) -> str | int:
    literal = _literal(token)
    if literal is None:
        return token
    places = [place for place, result in enumerate(earlier) if result == literal]
    if literal == value:
        if places:
            raise Invalid("a result equals the number")
        return "x"
    if places:
        if len({moved[place] for place in places}) > 1 or (moved[places[-1]] and (literal in written or literal in CONSTANTS)):
            raise Invalid("a result equals another number")
        return places[-1]
    if literal not in written and literal not in CONSTANTS:
        raise Invalid("the solution uses a number from nowhere")
    return token


def of_row(row: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """(question, solution, answer or None) of a row as the usual data sets write it: question and solution, equation or answer; SVAMP's
    Body, Question, Equation and Answer. Raises Invalid."""
    if isinstance(row.get("Body"), str) and isinstance(row.get("Question"), str):
        body = row["Body"].strip()
        question: Any = f"{body}{'' if body.endswith(('.', ',', '!', '?')) else ','} {row['Question'].strip()}"
    else:
        question = row.get("question", row.get("prompt"))
    if not isinstance(question, str) or not question.strip():
        raise Invalid("there is no question")
    names = [name for name in ("solution", "equation", "Equation", "answer", "Answer") if row.get(name) is not None]
    if not names:
        raise Invalid("there is neither solution nor answer")
    answers = [row[name] for name in names[1:] if name.lower() == "answer"]
    return question, row[names[0]], answers[0] if answers else None
