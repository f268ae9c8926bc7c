"""From files of problems to files of chains, with every row and every rejected chain accounted for."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from burnish.data.formats import load_rows
from burnish.data.long_horizon_chains.adapters import DEFAULT
from burnish.data.long_horizon_chains.adapters import adapters as made_adapters
from burnish.data.long_horizon_chains.chain import BOUND, Invalid
from burnish.data.long_horizon_chains.composing import Composed, Link, compose, split
from burnish.data.long_horizon_chains.problems import Executor, Problem, of_row, read
from burnish.runs import atomic, parts
from burnish.runs.errors import UserError

PROMPT = "chain prompt"


@dataclasses.dataclass(frozen=True)
class Settings:
    """h: horizons, "1..8" or "1,2,5". n, test_n: chains of each horizon. test_share: of the atomic problems. executor: a dotted name."""

    h: str = "1..8"
    n: int = 1000
    test_n: int = 100
    test_share: float = 0.2
    adapters: tuple[str, ...] = DEFAULT
    link: Link = "substitute"
    bound: int = BOUND
    executor: str = "burnish.tasks.expressions:evaluate"
    bad_rows: Literal["refuse", "skip"] = "refuse"
    seed: int = 0


@dataclasses.dataclass
class Read:
    """problems: those that could be read. rows: how many there were. left_out: of those that could not, by reason."""

    problems: list[Problem]
    rows: int
    left_out: Counter[str]


def horizons(text: str) -> list[int]:
    """ "1..8" or "1,2,5" as numbers, rising. Raises UserError."""
    try:
        first, dots, last = text.partition("..")
        found = list(range(int(first), int(last) + 1)) if dots else sorted({int(one) for one in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise UserError(f"--h is {text!r}; write horizons as 1..8 or 1,2,5")
    return found


def executor_named(name: str) -> Executor:
    """What gives expressions their value. Raises UserError."""
    found = parts.find("burnish.data", name)
    if not callable(found):
        raise UserError(f"--executor {name!r} is no function; name one that takes an expression and returns its value")
    return found


def read_problems(source: Any, executor: Executor, bad_rows: Literal["refuse", "skip"] = "refuse") -> Read:
    """The problems of a file (or rows in memory), each by its id or its row; the same question is taken once.

    Rows without question or solution are bad rows (refused, or skipped and counted); problems whose solution cannot be followed stay, with
    the reason in `Problem.why`; problems whose steps contradict their answer are left out and counted. Raises UserError.
    """

    def change(row: dict[str, Any]) -> dict[str, Any]:
        try:
            question, solution, answer = of_row(row)
        except Invalid as error:
            columns = ", ".join(map(str, row))
            raise UserError(
                f"{error.reason} in the row (columns: {columns}); it needs `question` and `solution`, `equation` or `answer`"
            ) from None
        return {PROMPT: question, "solution": solution, "answer": answer, "id": row.get("id", row.get("ID"))}

    rows = load_rows(source, {"prompt": PROMPT}, map=change, bad_rows=bad_rows)
    out = Read([], rows.report.read, Counter({"unreadable row": len(rows.report.skipped)} if rows.report.skipped else {}))
    seen: set[str] = set()
    stem = Path(rows.report.source).name.split(".")[0]
    for row, number in zip(rows, rows.number):
        name = str(row["id"]) if row.get("id") is not None else f"{stem}-{number}"
        if row["prompt"] in seen:
            out.left_out["the same question again"] += 1
            continue
        seen.add(row["prompt"])
        try:
            out.problems.append(read(name, row["prompt"], row["solution"], executor, row.get("answer")))
        except Invalid as error:
            out.left_out[error.reason] += 1
    return out


def make(sources: Sequence[Any], output: str | Path, settings: Settings) -> dict[str, Any]:
    """Writes train.jsonl, test.jsonl and report.json into the folder `output`, and returns the report.

    Raises UserError for bad settings, unreadable rows, and too few problems; nothing is written then.
    """
    wanted, executor = horizons(settings.h), executor_named(settings.executor)
    made_adapters(settings.adapters)
    if settings.n < 1 or settings.test_n < 0:
        raise UserError(f"--n is {settings.n} and --test-n {settings.test_n}; they must be at least 1 and 0")
    if settings.test_n and settings.test_share <= 0:
        raise UserError("--test-n asks for test chains but --test-share is 0; set it above 0, or --test-n 0")
    folder = Path(output)
    atomic.refuse_unwritable(folder)
    found = [read_problems(source, executor, settings.bad_rows) for source in sources]
    problems = [one for each in found for one in each.problems]
    sides = dict(zip(("train", "test"), split(problems, settings.test_share if settings.test_n else 0.0, settings.seed)))
    report: dict[str, Any] = {"settings": dataclasses.asdict(settings), "problems": _told(found, problems), "chains": {}}
    files: dict[str, list[Composed]] = {}
    for name, count in (("train", settings.n), ("test", settings.test_n)):
        if count:
            report["chains"][name], files[name] = _side(sides[name], wanted, count, executor, settings)
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, chains in files.items():
        atomic.write_text(folder / f"{name}.jsonl", "".join(json.dumps(one.row(), ensure_ascii=False) + "\n" for one in chains))
    atomic.write_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
    return report


def _side(
    problems: Sequence[Problem], wanted: Sequence[int], count: int, executor: Executor, settings: Settings
) -> tuple[dict[str, Any], list[Composed]]:
    chains: list[Composed] = []
    rejected: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    for h in wanted:
        made = compose(
            problems, h, count, executor=executor, adapters=settings.adapters, seed=settings.seed, link=settings.link, bound=settings.bound
        )
        chains += made.chains
        rejected += made.rejected
        numbers[str(h)] = len(made.chains)
    return {"problems": len(problems), "made": numbers, "rejected": _sorted(rejected)}, chains


def _told(found: Sequence[Read], problems: Sequence[Problem]) -> dict[str, Any]:
    left_out = sum((one.left_out for one in found), Counter())
    why = Counter(one.why for one in problems if one.why)
    return {
        "read": sum(one.rows for one in found),
        "kept": len(problems),
        "linkable": sum(bool(one.slots) for one in problems),
        "left out": _sorted(left_out),
        "not linkable": _sorted(why),
    }


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
