"""Checklists: what an instruction asks for, as requirements that a judge can decide on the text alone. ACE-RL (arXiv 2509.04903).

A row of data holds its checklist in three columns: `checklist` (a list of requirements), `target_length` and `length_unit`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from burnish.data.readers import read_file
from burnish.runs.errors import UserError, did_you_mean

Unit = Literal["words", "characters"]
UNITS: tuple[Unit, ...] = ("words", "characters")

DIMENSIONS = ("content completeness", "structural logic", "stylistic formatting")
"""The paper's three; a checklist may name others."""

SHORTEST = 20
FIELDS = ("id", "dimension", "text", "explicit", "weight", "held_out")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_NEGATIONS = frozenset({"not", "no", "never", "without", "avoid", "avoids", "don't", "doesn't", "does", "do"})


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One item of a checklist.

    id: names it inside its checklist. dimension: what kind of demand it is. text: what must hold. explicit: asked for in so many words,
    else implied. weight: above 0. held_out: True keeps it out of the reward (it is graded and reported); None leaves that to the reward.
    """

    id: str
    dimension: str
    text: str
    explicit: bool = True
    weight: float = 1.0
    held_out: bool | None = None

    @property
    def key(self) -> str:
        """Of id and text: what a grade is remembered by; an item that is worded anew is graded anew."""
        return f"{self.id}:{hashlib.blake2b(self.text.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; fields that say nothing are left out."""
        out = dataclasses.asdict(self)
        if self.held_out is None:
            del out["held_out"]
        return out


@dataclasses.dataclass(frozen=True)
class Checklist:
    """instruction: what was asked. items: at least one. target_length: in `unit`, or None where nobody says how long it should be."""

    instruction: str
    items: tuple[Requirement, ...]
    target_length: float | None = None
    unit: Unit = "words"

    def to_row(self, prompt: Any = None) -> dict[str, Any]:
        """A row for `burnish train`: the prompt (default: the instruction as a user message), and the columns that the reward reads."""
        return {
            "id": "ace-" + hashlib.blake2b(self.instruction.encode("utf-8", "replace"), digest_size=6).hexdigest(),
            "prompt": [{"role": "user", "content": self.instruction}] if prompt is None else prompt,
            "instruction": self.instruction,
            "target_length": self.target_length,
            "length_unit": self.unit,
            "checklist": [item.to_dict() for item in self.items],
        }


def requirements(given: Any, where: str) -> tuple[Requirement, ...]:
    """The items of a checklist as a row or a writer gives them: mappings with the fields of `Requirement`, or texts alone.

    Raises UserError naming the place for none, an unknown field, a missing text, a weight that is none, an id that stands twice. Warns
    of items that say the same, and of two that differ only in a negation.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence) or not given:
        raise UserError(f"{where} is {given!r}; a checklist is a list of at least one item with id, dimension and text")
    found = tuple(_requirement(one, number, f"{where}[{number - 1}]") for number, one in enumerate(given, 1))
    ids = [one.id for one in found]
    if len(set(ids)) < len(ids):
        raise UserError(f"{where}: the id {next(one for one in ids if ids.count(one) > 1)!r} stands twice; name the items apart")
    for reason in doubts(found):
        warnings.warn(f"{where}: {reason}", stacklevel=2)
    return found


def _requirement(given: Any, number: int, where: str) -> Requirement:
    entry: Any = {"text": given} if isinstance(given, str) else given
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is {given!r}; an item is a text, or an object with id, dimension and text")
    entry = {key: value for key, value in entry.items() if value is not None}
    for key in entry:
        if key not in FIELDS:
            raise UserError(f"{where}.{key} is unknown; {did_you_mean(str(key), FIELDS)}")
    text, weight = entry.get("text"), entry.get("weight", 1.0)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}.text is missing; say what the text must do")
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
        raise UserError(f"{where}.weight is {weight!r}; it must be a number above 0")
    for name in ("explicit", "held_out"):
        if not isinstance(entry.get(name, True), bool):
            raise UserError(f"{where}.{name} is {entry[name]!r}; it must be true or false")
    dimension = str(entry.get("dimension", DIMENSIONS[0])).strip() or DIMENSIONS[0]
    return Requirement(
        str(entry.get("id", number)), dimension, text.strip(), entry.get("explicit", True), float(weight), entry.get("held_out")
    )


def doubts(items: Sequence[Requirement]) -> list[str]:
    """What looks wrong about a checklist: items that say the same, and items that differ only in a negation."""
    out = []
    words = [re.findall(r"[\w']+", one.text.lower()) for one in items]
    for a in range(len(items)):
        for b in range(a + 1, len(items)):
            if words[a] == words[b]:
                out.append(f"items {items[a].id!r} and {items[b].id!r} say the same; drop one")
            elif _stems(words[a]) == _stems(words[b]) and (set(words[a]) & _NEGATIONS) != (set(words[b]) & _NEGATIONS):
                out.append(f"items {items[a].id!r} and {items[b].id!r} seem to contradict each other; drop one")
    return out


def _stems(words: Sequence[str]) -> list[str]:
    """Without negations and the s of the third person."""
    return [word.removesuffix("s") for word in words if word not in _NEGATIONS]


def of_columns(
    columns: Mapping[str, Any], instruction: str, where: str, checklist: str = "checklist", length: str = "target_length"
) -> Checklist:
    """The checklist of a row. Raises UserError for a column that is missing or holds something else."""
    given = columns.get(checklist)
    if given is None:
        raise UserError(f"{where} has no column {checklist!r}; make it with `burnish method ace-rl build`")
    if isinstance(given, str):  # as CSV keeps it
        try:
            given = json.loads(given)
        except ValueError:
            raise UserError(f"{where}: column {checklist!r} is text that is no JSON list; see docs/methods/ace-rl.md") from None
    unit = columns.get("length_unit") or "words"
    if unit not in UNITS:
        raise UserError(f"{where}: length_unit is {unit!r}; {did_you_mean(str(unit), UNITS)}")
    return Checklist(instruction, requirements(given, f"{where}: {checklist}"), target(columns.get(length), f"{where}: {length}"), unit)


def target(value: Any, where: str) -> float | None:
    """A target length above 0, or None. Raises UserError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{where} is {value!r}; it must be a number of words or characters above 0")
    return float(value)


def load(path: str | Path) -> list[tuple[dict[str, Any], Checklist]]:
    """Rows of a JSONL file with their checklists. Raises UserError naming file and line."""
    out = []
    for raw in read_file(Path(path)):
        if raw.row is None:
            raise UserError(f"{raw.where}: {raw.problem}; mend the line")
        out.append((raw.row, of_columns(raw.row, instruction_of(raw.row, raw.where), raw.where)))
    return out


def instruction_of(row: Mapping[str, Any], where: str) -> str:
    """What a row asks: its column `instruction`, or its prompt (the last user message of a chat)."""
    given = row.get("instruction")
    if given is None:
        given = row.get("prompt")
        if isinstance(given, Sequence) and not isinstance(given, str):
            told = [one.get("content") for one in given if isinstance(one, Mapping) and one.get("role") == "user"]
            given = told[-1] if told else None
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{where}: there is no instruction; the row needs a column 'instruction' or 'prompt'")
    return given


def unit_of(text: str) -> Unit:
    """ "characters" for languages written without spaces (Chinese, Japanese, Thai, Lao, Khmer), else "words"."""
    found = len(_UNSPACED.findall(text))
    return "characters" if found > len(re.findall(r"\w+", _UNSPACED.sub(" ", text))) else "words"


def measure(text: str, unit: Unit) -> int:
    """Length in words (what white space separates) or in characters (without white space)."""
    words = text.split()
    return len(words) if unit == "words" else sum(map(len, words))


def length_in(instruction: str) -> tuple[float, Unit] | None:
    """A length that the instruction itself names ("about 1,200 words", "500 to 700 words", "800字"), the middle of a range; or None.

    Fewer than 20 are no length of a text ("a play with 4 characters").
    """
    number = r"(\d[\d,]*(?:\.\d+)?)\s*(k)?"
    pattern = rf"{number}(?:\s*(?:-|–|to|and|bis|~|至|到)\s*{number})?[\s-]*(words?\b|characters?\b|字|文字)"
    found = re.search(pattern, instruction, re.IGNORECASE)
    if found is None:
        return None
    ends = [float(value.replace(",", "")) * (1000 if kilo else 1) for value, kilo in ((found[1], found[2]), (found[3], found[4])) if value]
    value = sum(ends) / len(ends)
    return (value, "words" if found[5].lower().startswith("word") else "characters") if value >= SHORTEST else None
