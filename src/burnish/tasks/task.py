"""What every task is: a frozen config that makes problems and scores answers.

A task file holds one class, its `part`. The class says how one problem is drawn (`draw`), how many there are (`space`), and,
where more than one answer is right, what counts as right (`correct`). Everything else is here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from burnish.records import Score
from burnish.runs.config import Config
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

TEST_SHARE = 8
"""One in so many problems belongs to the held-out side."""

Split = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class Draft:
    """One drawn problem. question: the short form. key: equal keys are the same problem (default: the question itself)."""

    question: str
    answer: str
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """One problem of a task. answer: a reference answer (other answers may be right too). columns: what the scorer reads besides."""

    id: str
    prompt: str
    answer: str
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """One flat row for the data loaders: id, prompt, completion, answer and the other columns."""
        return {"id": self.id, "prompt": self.prompt, "completion": self.answer, "answer": self.answer, **self.columns}

    def scored_columns(self) -> dict[str, Any]:
        """What `Task.score` reads: the columns with the answer among them."""
        return {"answer": self.answer, **self.columns}


class Task(Config):
    """Base of the tasks. Subclasses set `name` and `ask`, and write `draw`, `space` and, where needed, `correct` and `check_fields`."""

    name: ClassVar[str] = "task"
    ask: ClassVar[str] = "{question}"  # the instruction around a question, for models that read English

    difficulty: int = Field(default=3, description="1 (easiest) to 10; sets every size below that is left unset")
    style: Literal["short", "words"] = Field(default="short", description="short: the bare question; words: with an English instruction")

    def draw(self, generator: np.random.Generator) -> Draft:
        """One problem, from nothing but the generator."""
        raise NotImplementedError

    def space(self) -> int:
        """A lower bound of the number of different problems this setting can draw, both splits together."""
        raise NotImplementedError

    def correct(self, answer: str, columns: Mapping[str, Any]) -> bool:
        """Whether an answer (already stripped) is right. Default: equal to the reference."""
        return answer == columns["answer"]

    def validate(self) -> None:  # type: ignore[override]
        """Raises UserError that names the field whose value makes no sense."""
        self.check("difficulty", 1 <= self.difficulty <= 10, "an integer from 1 to 10")
        self.check_fields()

    def check_fields(self) -> None:
        """A task's own checks, made of `check` calls."""

    def check(self, field: str, fine: bool, wanted: str) -> None:
        """Raises UserError unless `fine`."""
        if not fine:
            raise UserError(f"task {self.name}: {field} is {getattr(self, field)!r}; it must be {wanted}")

    def items(self, n: int, seed: int, split: Split = "train") -> list[Problem]:
        """n different problems. The split is a property of the problem itself (a hash), so train and test never meet, whatever the seeds.

        Raises UserError where the setting is wrong or holds too few problems.
        """
        self.validate()
        if split not in ("train", "test"):
            raise UserError(f"task {self.name}: split is {split!r}; it must be 'train' or 'test'")
        generator = rng("task", self.name, split, seed)
        found: dict[str, Problem] = {}
        misses = 0
        while len(found) < n:
            draft = self.draw(generator)
            name = digest(self.name, draft.key or draft.question)
            fits = (int(name, 16) % TEST_SHARE == 0) == (split == "test")
            if fits and name not in found:
                found[name] = Problem(f"{self.name}-{name}", self.prompt(draft.question), draft.answer, draft.columns)
                misses = 0
                continue
            misses += 1
            if misses > 2000 + 20 * TEST_SHARE * n:
                raise UserError(
                    f"task {self.name}: only {len(found)} of {n} different {split} problems found; about {self.space()} exist in all: "
                    "raise difficulty (or the sizes) or ask for fewer"
                )
        return list(found.values())

    def prompt(self, question: str) -> str:
        """The question as it is put to the policy."""
        return question if self.style == "short" else self.ask.format(question=question)

    def score(self, completion: str, columns: Mapping[str, Any]) -> Score:
        """reward = success = 1 or 0; any text is a possible completion and none raises."""
        success = float(self.correct(self.answer_of(completion), columns))
        return Score(reward=success, success=success, parts={"correct": success})

    def answer_of(self, completion: str) -> str:
        """The answer inside a completion: all of it, or (style words) what follows the last "answer:", else the last line."""
        text = completion.strip()
        if self.style == "words" and text:
            text = re.split(r"answer\s*(?:is)?\s*:", text, flags=re.IGNORECASE)[-1].strip() or text
            text = text.splitlines()[-1].strip().strip("`*").rstrip(".").strip()
        return text


def digest(*parts: str) -> str:
    """16 hex digits that name a problem, stable over processes and machines."""
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()


@dataclasses.dataclass(frozen=True)
class ConstantBaseline:
    """answer: the best constant answer found. success: the share of problems it solves."""

    answer: str
    success: float
    problems: int


def constant_baseline(task: Task, n: int = 1000, seed: int = 0, candidates: int = 200) -> ConstantBaseline:
    """How far one fixed answer goes: the commonest answers of n train and n test problems, each measured on the n test problems.

    Chosen and measured on the same problems, so it errs on the high side.
    """
    test = task.items(n, seed, "test")
    counts: dict[str, int] = {}
    for problem in [*task.items(n, seed, "train"), *test]:
        counts[problem.answer] = counts.get(problem.answer, 0) + 1
    common = sorted(counts, key=lambda answer: (-counts[answer], answer))[:candidates]
    solved = {answer: sum(task.score(answer, problem.scored_columns()).success or 0.0 for problem in test) for answer in ["", *common]}
    best = max(solved, key=lambda answer: solved[answer])
    return ConstantBaseline(best, solved[best] / n, n)


def alphabet(task: Task, n: int = 500, seed: int = 0) -> str:
    """Every character seen in n train problems and their answers, sorted: what a character tokenizer needs."""
    return "".join(sorted({char for problem in task.items(n, seed) for char in problem.prompt + problem.answer}))
