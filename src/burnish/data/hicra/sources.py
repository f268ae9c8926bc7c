"""Completions to extract from or to measure: the rollouts of a run folder, or a JSONL file with one text a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.runs.errors import UserError
from burnish.runs.tolerant import numbered, read_lines


@dataclasses.dataclass(frozen=True)
class Completion:
    """step: of the run, or the row's own `step` (None: it has none). right: True or False where it is known."""

    text: str
    step: int | None = None
    right: bool | None = None


def read_completions(path: str | Path, problems: list[str], field: str | None = None, right: str | None = None) -> Iterator[Completion]:
    """Of a run folder: every valid rollout of every step that was kept. Of a JSONL file: the texts in `field`.

    field: None: "text", "completion" or "solution", whichever a row has. right: a field that is true (or 1 and more) for right solutions.
    problems: one line is added for whatever was left out. Raises UserError where there is nothing of the kind at `path`.
    """
    path = Path(path)
    if path.is_dir():
        steps = numbered(path / "rollouts", r"step-(\d+)\.jsonl")
        if not steps:
            raise UserError(f"{path} holds no rollouts; give a run folder that kept some (rl.keep_rollouts), or a JSONL file of texts")
        for number, file in steps.items():
            for line, row in read_lines(file, problems):
                yield from _of_group(row, number, f"{file.name}, line {line}", problems)
        return
    if not path.is_file():
        raise UserError(f"{path}: no such file or run folder; give a JSONL file of texts, or a folder that `burnish train` wrote")
    for number, row in read_lines(path, problems):
        text = row.get(field) if field else next((row[name] for name in ("text", "completion", "solution") if name in row), None)
        if not isinstance(text, str):
            wanted = repr(field) if field else "'text', 'completion' or 'solution'"
            problems.append(f"{path.name}, line {number}: no text in {wanted}; left out")
            continue
        step: Any = row.get("step")
        yield Completion(text, step if isinstance(step, int) else None, _truth(row.get(right)) if right else None)


def _of_group(row: dict[str, Any], step: int, where: str, problems: list[str]) -> Iterator[Completion]:
    texts, scores = row.get("texts"), row.get("scores")
    if not isinstance(texts, list) or not isinstance(scores, list) or len(texts) != len(scores):
        problems.append(f"{where}: a group without texts and scores; left out")
        return
    for text, score in zip(texts, scores):
        if isinstance(text, str) and isinstance(score, dict) and not score.get("invalid"):
            yield Completion(text, step, _truth(score.get("success")))


def _truth(value: Any) -> bool | None:
    return bool(value >= 1) if isinstance(value, int | float) else None
