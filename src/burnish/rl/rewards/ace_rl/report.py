"""What a judge said of many texts: satisfaction by item and dimension, items that are never or always met, agreement of two judges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.data.ace_rl.checklist import Requirement
from burnish.rl.rewards.ace_rl.grades import GRADES, GradeTable


@dataclasses.dataclass(frozen=True)
class Graded:
    """One grade: of which prompt, item and text. text: any name of the text that is unique inside the prompt."""

    prompt: str
    item: Requirement
    text: str
    grade: str
    held_out: bool = False


def report(grades: Sequence[Graded], table: GradeTable | None = None, least: int = 2) -> dict[str, Any]:
    """JSON values: `dimensions` and `items` with mean satisfaction, shares of the three grades and the number of texts; `in_reward` and
    `held_out`: mean satisfaction of either; `never_met` (no text in full or in part) and `always_met` (every text in full): items with at
    least `least` texts, which tell texts apart no more.
    """
    table = table or GradeTable()
    items: dict[tuple[str, str], list[Graded]] = {}
    dimensions: dict[str, list[Graded]] = {}
    for one in grades:
        items.setdefault((one.prompt, one.item.id), []).append(one)
        dimensions.setdefault(one.item.dimension, []).append(one)
    rows = [{"prompt": prompt, "item": item, "text": found[0].item.text, **_of(found, table)} for (prompt, item), found in items.items()]
    enough = [row for row in rows if row["n"] >= least]
    return {
        "dimensions": {name: _of(found, table) for name, found in dimensions.items()},
        "items": rows,
        "in_reward": _mean([one for one in grades if not one.held_out], table),
        "held_out": _mean([one for one in grades if one.held_out], table),
        "never_met": [[row["prompt"], row["item"]] for row in enough if row["not met"] == 1],
        "always_met": [[row["prompt"], row["item"]] for row in enough if row["fully met"] == 1],
        "grades": len(grades),
    }


def _of(found: Sequence[Graded], table: GradeTable) -> dict[str, Any]:
    shares: dict[str, Any] = {grade: sum(one.grade == grade for one in found) / len(found) for grade in GRADES}
    return {"mean": _mean(found, table), **shares, "n": len(found)}


def _mean(found: Sequence[Graded], table: GradeTable) -> float | None:
    return float(np.mean([table.value(one.grade) for one in found])) if found else None


def agreement(first: Iterable[Graded], second: Iterable[Graded]) -> dict[str, float | None]:
    """Of two judges on the (text, item) pairs that both graded: share of equal grades, share at most one step apart, and Cohen's kappa with
    linear weights (1 perfect, 0 as by chance; None where a judge gave one grade only, so that there is no chance to compare with).
    """
    mine = {(one.prompt, one.item.id, one.text): GRADES.index(one.grade) for one in first}
    theirs = {(one.prompt, one.item.id, one.text): GRADES.index(one.grade) for one in second}
    both = [(mine[key], theirs[key]) for key in mine if key in theirs]
    if not both:
        return {"pairs": 0.0, "equal": None, "within_one_step": None, "kappa": None}
    a, b = np.array(both).T
    chance = np.abs(a[:, None] - b[None, :]).mean()
    distance = np.abs(a - b)
    return {
        "pairs": float(len(both)),
        "equal": float((distance == 0).mean()),
        "within_one_step": float((distance <= 1).mean()),
        "kappa": float(1 - distance.mean() / chance) if len(set(a)) > 1 and len(set(b)) > 1 else None,
    }


def graded_of(prompt: str, items: Sequence[Requirement], text: str, facts: Mapping[str, Any]) -> list[Graded]:
    """The grades in a Score's extras."""
    by_id = {item.id: item for item in items}
    out = set(facts.get("held_out", ()))
    return [Graded(prompt, by_id[name], text, grade, name in out) for name, grade in facts.get("grades", {}).items() if name in by_id]
