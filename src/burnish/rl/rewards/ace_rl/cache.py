"""Grades on disk: every (text, item, judge) is graded once, in this run and the next. An append-only JSONL file, one grade a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.data.ace_rl.checklist import Requirement
from burnish.data.ace_rl.writer import mend
from burnish.rl.rewards.ace_rl.grades import GRADES, Grade
from burnish.runs import atomic
from burnish.runs.errors import UserError
from burnish.runs.folder import append_line

Key = tuple[str, str, str]
"""(hash of the text, item with the hash of its wording and of the instruction, the judge's id)"""


def key_of(text: str, item: Requirement, judge: str, instruction: str) -> Key:
    """What a grade is remembered by. The instruction counts too: two prompts may have an item of the same name and wording."""
    mark = hashlib.blake2b(instruction.encode("utf-8", "replace"), digest_size=6).hexdigest()
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest(), f"{item.key}:{mark}", judge


class GradeCache:
    """path: the file, made where it is not there; None: in memory alone, and then part of the run's checkpoints.

    Several processes may share a file: a line is one write, a grade that stands twice is the same grade. A last line that a kill tore is
    dropped. Raises UserError for a file that is no such cache.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.known: dict[Key, Grade] = {}
        if self.path is not None:
            with atomic.explained(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            mend(self.path)
            self._read(self.path)

    def _read(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                key, grade = (str(row["text"]), str(row["item"]), str(row["judge"])), row["grade"]
                if grade not in GRADES:
                    raise ValueError(grade)
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{path}, line {number} is no grade; mend or remove the line, or name another cache") from None
            self.known[key] = grade

    def get(self, key: Key) -> Grade | None:
        """The grade, or None."""
        return self.known.get(key)

    def put(self, found: Mapping[Key, Grade]) -> None:
        """Remembers grades, all in one write."""
        fresh = {key: grade for key, grade in found.items() if self.known.get(key) != grade}
        self.known |= fresh
        if self.path is not None and fresh:
            rows = [json.dumps({"text": key[0], "item": key[1], "judge": key[2], "grade": grade}) for key, grade in fresh.items()]
            append_line(self.path, "\n".join(rows) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """The grades, where no file keeps them."""
        return {"known": [[*key, grade] for key, grade in self.known.items()] if self.path is None else []}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.known |= {(str(text), str(item), str(judge)): grade for text, item, judge, grade in state["known"]}
