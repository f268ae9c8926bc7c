"""Code against tests: the completion's program runs in a sandbox; the reward is the share of tests that pass."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from burnish.chat.sandbox.make import make_sandbox
from burnish.records import Item, Score, StopReason
from burnish.rl.rewards.code_cases import COLUMNS, Tests, code_of, read_tests, same_output, with_prefix
from burnish.rl.rewards.judging import column_of, question_of
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

HARNESS = Path(__file__).with_name("code_harness.py")
STARTING = 5.0
"""Seconds that the harness may take beyond its tests."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """passed: of how many. broken: the sandbox's fault, in words, or None. why: of the first test that failed."""

    passed: int
    tests: int
    broken: str | None = None
    why: str = ""


class CodeTests:
    """reward = tests passed / tests; success where all pass.

    Out of time, memory or output is a failed test; a broken sandbox makes the Score invalid.

    sandbox: its level by name; "process" is the only one yet (see `chat.sandbox.process` for what it does not stop), and nothing runs by
    default. tests: the column that holds them (unset: the first of `COLUMNS` there is); see `read_tests` for the forms.
    setup: a column of code that runs after the solution, before each test, where the row has it. entry_point: a column with the name of the
    function. prefix: a column that the completion continues ("prompt": the prompt itself). seconds: for each test, start-up included.
    memory_mb: for each process. limits: further arguments of the sandbox (concurrency, processes, output_bytes, ...).
    The code is the last fenced Python block of the completion, or all of it.

    extras: tests_passed, tests, sandbox, and test_failure in words. Raises UserError for no sandbox, rows without tests and a sandbox in
    which not even an empty program runs.
    """

    def __init__(
        self,
        sandbox: str | None = None,
        tests: str | None = None,
        setup: str = "test_setup_code",
        entry_point: str = "entry_point",
        prefix: str | None = None,
        seconds: float = 5.0,
        memory_mb: int = 1024,
        limits: Mapping[str, Any] | None = None,
        label: str = "code_tests",
    ) -> None:
        self.where, self.name = f"reward {label}", label
        self.sandbox = make_sandbox(sandbox, self.where, **{"seconds": seconds, "memory_mb": memory_mb, **(limits or {})})
        self.tests, self.setup, self.entry_point, self.prefix, self.seconds = tests, setup, entry_point, prefix, float(seconds)
        self.decode: Callable[[list[int]], str] | None = None
        self.harness = HARNESS.read_text(encoding="utf-8")
        tried = self.sandbox.run("print('ready')", seconds=60.0)
        if not tried.ok or tried.stdout != "ready\n":
            said = " ".join(tried.stderr.split())[-200:]
            raise UserError(f"{self.where}: an empty program does not run in the sandbox ({tried.status}: {said}); raise memory_mb")

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order. Equal programs run once."""
        tests, setup = self.tests_of(group.item), str(group.item.columns.get(self.setup) or "")
        ran = [place for place, rollout in enumerate(group.rollouts) if rollout.stop != StopReason.ERROR]
        programs = {place: self.program(group.item, group.texts[place]) for place in ran}
        distinct = list(dict.fromkeys(programs.values()))
        with ThreadPoolExecutor(max(1, self.sandbox.concurrency)) as pool:
            outcomes = dict(zip(distinct, pool.map(lambda one: self.outcome(one, setup, tests), distinct)))
        broken = Outcome(0, len(tests), "the rollout ended in an error")
        return [self._score(outcomes[programs[place]] if place in programs else broken) for place in range(len(group.rollouts))]

    def tests_of(self, item: Item) -> Tests:
        """The row's tests. Raises UserError where there are none."""
        column = self.tests or next((one for one in COLUMNS if item.columns.get(one) is not None), None)
        if column is None:
            there = ", ".join(item.columns) or "none"
            raise UserError(f"{self.where}: item {item.id!r} has no column of tests; columns there: {there}; name it (tests: ...)")
        entry = item.columns.get(self.entry_point)
        given = column_of(item, column, self.where)
        return read_tests(given, None if entry is None else str(entry), f"{self.where}: column {column!r} of item {item.id!r}")

    def program(self, item: Item, completion: str) -> str:
        """The text that is run for a completion."""
        code = code_of(completion)
        if self.prefix is None or not code.strip():
            return code
        entry = item.columns.get(self.entry_point)
        own = self.prefix == "prompt" and "prompt" not in item.columns
        head = question_of(item, None if own else self.prefix, self.decode, self.where)
        return with_prefix(head, code, None if entry is None else str(entry))

    def outcome(self, program: str, setup: str, tests: Tests) -> Outcome:
        """How many tests a program passes."""
        if not program.strip():
            return Outcome(0, len(tests), why="there is no code")
        return self._functions(program, setup, tests) if tests.functions else self._cases(program, tests)

    def _functions(self, program: str, setup: str, tests: Tests) -> Outcome:
        mark = secrets.token_hex(8)
        order = {"solution": program, "setup": setup, "tests": tests.functions, "seconds": self.seconds, "mark": mark}
        ran = self.sandbox.run(self.harness, json.dumps(order) + "\n", self.seconds * len(tests) + STARTING)
        lines = [line.split()[1:] for line in ran.stdout.splitlines() if line.startswith(mark + " ")]
        if ran.status == "broken" or (["ready"] not in lines and ran.status == "ended"):
            return Outcome(0, len(tests), broken=" ".join(ran.stderr.split())[-200:] or "the harness did not start")
        found = {line[0]: line[1] for line in lines if len(line) == 2}
        results = [found.get(str(number), ran.status) for number in range(len(tests))]
        return Outcome(results.count("passed"), len(tests), why=next((one for one in results if one != "passed"), ""))

    def _cases(self, program: str, tests: Tests) -> Outcome:
        passed, why = 0, ""
        for given, expected in tests.cases:
            ran = self.sandbox.run(program, given, self.seconds)
            if ran.status == "broken":
                return Outcome(0, len(tests), broken=" ".join(ran.stderr.split())[-200:])
            good = ran.ok and same_output(ran.stdout, expected)
            passed += good
            why = why or (
                "" if good else ran.status if ran.status != "ended" else f"exit status {ran.code}" if ran.code else "other output"
            )
        return Outcome(passed, len(tests), why=why)

    def _score(self, outcome: Outcome) -> Score:
        if outcome.broken is not None:
            return Score(reward=0.0, invalid=True, extras={"reason": f"{self.name}: {outcome.broken}"})
        share = outcome.passed / outcome.tests
        extras = {"tests_passed": outcome.passed, "tests": outcome.tests, "sandbox": "process", "test_failure": outcome.why}
        return Score(reward=share, success=float(share == 1.0), parts={self.name: share}, extras=extras)


part = CodeTests
