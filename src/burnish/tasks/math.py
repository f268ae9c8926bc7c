"""Answers to mathematics, compared by math-verify (extra `math`), and GSM8K's way of writing them."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field

from burnish.records import Score
from burnish.runs.config import Config
from burnish.runs.errors import UserError
from burnish.tasks.worker import Worker

MARKS = re.compile(r"<<[^<>]*>>")
AFTER_HASHES = re.compile(r"####[ \t]*([^\n]*)")
PLAIN = re.compile(r"\s*\$?\s*([-+]?)\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)\s*\.?\s*")
ROUNDING = Fraction(1, 2_000_000)  # math-verify rounds decimals to six places
LONGEST = 400
"""Answers longer than this many characters are wrong without a look."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """equal: the answer is the gold's. gold_parsed: False where the gold itself is no mathematics. timed_out: nobody knows."""

    equal: bool
    gold_parsed: bool = True
    timed_out: bool = False


def strip_marks(text: str) -> str:
    """A GSM8K solution without its calculator marks `<<48/2=24>>`."""
    return MARKS.sub("", text)


def gsm8k_gold(solution: str) -> str:
    """The gold number of a GSM8K solution: what follows the last `####`, without commas. Raises UserError where there is none."""
    found = AFTER_HASHES.findall(solution)
    gold = found[-1].replace(",", "").replace("$", "").strip() if found else ""
    if plain_number(gold) is None:
        raise UserError(f"no number follows '####' in the solution {solution[-60:]!r}; GSM8K answers end with '#### number'")
    return gold


def gsm8k_row(row: Mapping[str, Any], question: str = "question", answer: str = "answer") -> dict[str, Any]:
    """A GSM8K row (`question`, `answer`) as prompt, completion (marks stripped) and `answer` = the gold number; other columns stay."""
    for name in (question, answer):
        if not isinstance(row.get(name), str):
            raise UserError(f"a GSM8K row needs the text column {name!r}; this one has: {', '.join(map(str, row))}")
    rest = {key: value for key, value in row.items() if key not in (question, answer)}
    return {**rest, "prompt": row[question], "completion": strip_marks(row[answer]), "answer": gsm8k_gold(row[answer])}


def plain_number(text: str) -> Fraction | None:
    """The exact value of a bare decimal number (commas, a sign and a dollar sign allowed), or None."""
    match = PLAIN.fullmatch(text)
    if match is None or len(text) > 60:
        return None
    value = Fraction(match.group(2).replace(",", ""))
    return -value if match.group(1) == "-" else value


def boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{...}`, brackets matched, or None."""
    at = text.rfind("\\boxed{")
    if at < 0:
        return None
    depth, start = 1, at + len("\\boxed{")
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place]
    return None


class Math(Config):
    r"""Scores the answer in a completion against the column `answer`.

    form: where the answer stands: after the last `####` (hashes), in the last `\boxed{}` (boxed), or the first of these that is there, else
    wherever math-verify finds one (any).
    reward = (1 - format_weight - closeness_weight) * success + format_weight * format + closeness_weight * closeness, where format is 1
    if the answer stands where `hashes` or `boxed` asks (for any: in either), and closeness falls from 1 with the relative error of the
    number: 1 / (1 + 10 * |answer - gold| / max(|gold|, 1)), 0 where either is no plain number.
    An answer on which math-verify finds no end in `seconds` is wrong (`parts["timeout"]` = 1); a gold that is no mathematics is invalid.
    """

    name: ClassVar[str] = "math"

    form: Literal["any", "hashes", "boxed"] = Field(default="any", description="where the answer stands in a completion")
    format_weight: float = Field(default=0.0, description="share of the reward for the answer's form")
    closeness_weight: float = Field(default=0.0, description="share of the reward for a number close to the gold")
    seconds: float = Field(default=5.0, description="time limit of one comparison")

    def validate(self) -> None:  # type: ignore[override]
        """Raises UserError that names the field whose value makes no sense, or the extra that is missing."""
        if not installed():
            raise UserError("math answers need math-verify, which is not installed: pip install 'burnish[math]'")
        for field in ("format_weight", "closeness_weight"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"math: {field} is {getattr(self, field)}; it must be from 0 to 1")
        if self.format_weight + self.closeness_weight > 1:
            raise UserError(f"math: format_weight + closeness_weight is {self.format_weight + self.closeness_weight}; it must be at most 1")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UserError(f"math: seconds is {self.seconds}; it must be a positive number")

    def answer_of(self, completion: str) -> tuple[str, bool]:
        """(the answer's text, whether it stands where it should)."""
        hashes = AFTER_HASHES.findall(completion) if self.form in ("any", "hashes") else []
        if hashes and hashes[-1].strip():
            return hashes[-1].strip(), True
        inside = boxed(completion) if self.form in ("any", "boxed") else None
        if inside is not None and inside.strip():
            return inside.strip(), True
        return (completion.strip()[-LONGEST:], False) if self.form == "any" else ("", False)

    def score(self, completion: str, columns: Mapping[str, Any]) -> Score:
        """The Score of one completion. columns: `answer`, a number or LaTeX; a whole GSM8K solution (with `####`) is read as its gold."""
        self.validate()
        gold = gold_text(columns)
        answer, formed = self.answer_of(completion)
        verdict = compare(gold, answer, self.seconds)
        if not verdict.gold_parsed:
            return Score(reward=0.0, invalid=True, extras={"reason": f"the gold answer {gold[:60]!r} is no mathematics"})
        success = float(verdict.equal)
        close = 1.0 if verdict.equal else closeness(gold, answer)
        parts = {"correct": success, "format": float(formed), "closeness": close, "timeout": float(verdict.timed_out)}
        rest = 1.0 - self.format_weight - self.closeness_weight
        reward = rest * success + self.format_weight * parts["format"] + self.closeness_weight * close
        return Score(reward=reward, success=success, parts=parts)


def gold_text(columns: Mapping[str, Any]) -> str:
    """The gold answer of a row's columns. Raises UserError where the column `answer` is missing."""
    if columns.get("answer") is None:
        raise UserError(f"math needs a column 'answer'; this row has: {', '.join(map(str, columns)) or 'none'}")
    gold = str(columns["answer"])
    return gsm8k_gold(gold) if "####" in gold else gold.strip()


def closeness(gold: str, answer: str) -> float:
    """1 for the gold number, falling with the relative error; 0 where either is no plain number."""
    a, b = plain_number(gold), plain_number(answer)
    return 0.0 if a is None or b is None else 1.0 / (1.0 + float(10 * abs(a - b) / max(abs(a), Fraction(1))))


@functools.lru_cache(maxsize=20_000)
def compare(gold: str, answer: str, seconds: float = 5.0) -> Verdict:
    """math-verify's verdict; two plain numbers, and answers that are empty or too long, are settled without it."""
    if not answer or len(answer) > LONGEST:
        return Verdict(False)
    a, b = plain_number(gold), plain_number(answer)
    if a is not None and b is not None:
        return Verdict(a == b or (a.denominator * b.denominator > 1 and abs(a - b) < ROUNDING))
    found = worker(seconds).ask({"gold": gold, "answer": answer})
    return Verdict(False, timed_out=True) if found is None else Verdict(**found)


@functools.cache
def installed() -> bool:
    """Whether math-verify is there."""
    return importlib.util.find_spec("math_verify") is not None


@functools.lru_cache(maxsize=8)
def worker(seconds: float) -> Worker:
    """One math-verify process for each time limit."""
    return Worker("burnish.tasks.math_worker", seconds)


part = Math
