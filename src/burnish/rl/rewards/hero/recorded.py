"""Recorded groups: the forms in which a JSONL file or a run folder holds verdicts and scores."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.runs.errors import UserError


@dataclasses.dataclass
class Recorded:
    """A group as read. right: verifier at or above 0.5. score: NaN where missing."""

    id: str
    right: list[bool]
    score: list[float]


def read(path: Path, scorer: Any = None) -> list[list[Recorded]]:
    """The batches of a file or a run folder. Raises UserError naming file and line."""
    if path.is_dir():
        files = sorted((path / "rollouts").glob("step-*.jsonl"))
        if not files:
            raise UserError(f"{path} has no rollouts/step-*.jsonl; train with rl.keep_rollouts above 0, or name a JSONL file")
        return [batch for file in files for batch in read(file, scorer)]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}; name a JSONL file or a run folder") from None
    groups: dict[str, Recorded] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _add(groups, line, f"{path}, line {number}", number, scorer)
    if not groups:
        raise UserError(f"{path} holds no groups; see `burnish method hero inspect --help` for the forms of a line")
    return [list(groups.values())]


def _add(groups: dict[str, Recorded], line: str, where: str, number: int, scorer: Any) -> None:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object; mend or remove the line")
    if "rollouts" in row and "scores" in row:
        found, alone = _of_run(row, where, scorer), False
    else:
        found, alone = _of_line(row, where, number, scorer)
    if alone and found.id in groups:
        groups[found.id].right += found.right
        groups[found.id].score += found.score
        return
    groups[found.id if alone else f"{number} {found.id}"] = found


def _of_line(row: Mapping[str, Any], where: str, number: int, scorer: Any) -> tuple[Recorded, bool]:
    verified, alone = row.get("verifier"), not isinstance(row.get("verifier"), list)
    name = row.get("group", row.get("id"))
    if alone and name is None:
        raise UserError(f'{where}: a line of one completion says its group; add "group": ...')
    values = [verified] if alone else list(verified or [])
    if scorer is not None:
        given = row.get("completion" if alone else "completions")
        texts = [given] if alone else given
        if not isinstance(texts, list) or len(texts) != len(values) or not all(isinstance(text, str) for text in texts):
            raise UserError(f'{where}: --scorer needs the texts: add "completions", one for each verdict ("completion" in a line of one)')
        scored = scorer(_completions(str(name), row, texts))
    else:
        scored = [row.get("score")] if alone else row.get("score")
    if not isinstance(scored, list) or len(scored) != len(values):
        raise UserError(f'{where}: "verifier" and "score" must be lists of one length, or two numbers; see --help')
    right = [_number(value, where, "verifier") >= 0.5 for value in values]
    return Recorded(str(number if name is None else name), right, [_score(value, where) for value in scored]), alone


def _of_run(row: Mapping[str, Any], where: str, scorer: Any) -> Recorded:
    from burnish.rl.batch import group_from_dict
    from burnish.tasks.completions import Completions

    try:
        group, texts = group_from_dict(dict(row)), list(row["texts"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: not a group as `burnish train` records it ({' '.join(str(error).split())}); mend or remove it") from None
    valid = [place for place, score in enumerate(group.scores) if not score.invalid]
    right, score = [], []
    found = scorer(Completions(group.item, group.rollouts, texts)) if scorer is not None else None
    for place in valid:
        one = group.scores[place]
        says = one.extras.get("hero") or {}
        right.append(bool(says.get("right", (one.reward if one.success is None else one.success) >= 0.5)))
        if found is None and "score" not in says:
            raise UserError(f"{where}: the run recorded no scores (it had none of HERO's shapers); score its texts with --scorer")
        score.append(found[place] if found is not None else _score(says["score"], where))
    return Recorded(group.item.id, right, score)


def _completions(name: str, row: Mapping[str, Any], texts: list[str]) -> Any:
    from burnish.records import Item, Rollout
    from burnish.tasks.completions import Completions

    prompt = row.get("prompt", "")
    messages = prompt if isinstance(prompt, list) and prompt else [{"role": "user", "content": str(prompt)}]
    columns = {key: value for key, value in row.items() if key not in ("verifier", "completions", "completion")}
    return Completions(Item(name, messages, columns=columns), [Rollout(name, place, []) for place in range(len(texts))], texts)


def _number(value: Any, where: str, name: str) -> float:
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise UserError(f"{where}: {name} holds {value!r}; it must hold numbers, 1 for right and 0 for wrong")
    return float(value)


def _score(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{where}: score holds {value!r}; it must hold numbers, or null where there is none")
    return float(value)
