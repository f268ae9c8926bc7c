"""What a row's tests are, and what of a completion is the code: the readings that the common data sets need."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.runs.errors import UserError

COLUMNS = ("tests", "test_list", "test", "test_cases", "input_output")
"""Where tests are looked for where the config names no column (MBPP: test_list, HumanEval: test, APPS: input_output)."""
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Tests:
    """functions: texts of Python, each a test of its own that runs after the solution. cases: (stdin, expected stdout) of programs."""

    functions: tuple[str, ...] = ()
    cases: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.functions) + len(self.cases)


def read_tests(given: Any, entry_point: str | None, where: str) -> Tests:
    """The tests in a row's value. Raises UserError, beginning with `where`.

    A list of texts: assertions. A list of {"input": ..., "output": ...}: programs' input and output. {"inputs": [...], "outputs": [...]}:
    the same, or calls of the function that `fn_name` names. A text: any of these as JSON, else one test program; where that defines
    `check`, it is called with the function that entry_point names.
    """
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            call = f"\ncheck({entry_point})\n" if entry_point and re.search(r"^def check\(", given, re.MULTILINE) else ""
            return Tests(functions=(_checked(given + call, where),)) if given.strip() else _none(where)
    if isinstance(given, Mapping) and isinstance(given.get("inputs"), Sequence) and isinstance(given.get("outputs"), Sequence):
        if len(given["inputs"]) != len(given["outputs"]):
            raise UserError(f"{where}: {len(given['inputs'])} inputs but {len(given['outputs'])} outputs; they must be as many")
        pairs = list(zip(given["inputs"], given["outputs"]))
        if given.get("fn_name"):
            return Tests(functions=tuple(_call(str(given["fn_name"]), one, out, where) for one, out in pairs)) if pairs else _none(where)
        given = [{"input": one, "output": out} for one, out in pairs]
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
        raise UserError(f"{where}: {type(given).__name__} is no list of tests; give assertions, or {{input: ..., output: ...}} for each")
    if not given:
        return _none(where)
    if all(isinstance(one, str) for one in given):
        return Tests(functions=tuple(_checked(one, where) for one in given))
    if all(isinstance(one, Mapping) and {"input", "output"} <= set(one) for one in given):
        return Tests(cases=tuple((_text(one["input"]), _text(one["output"])) for one in given))
    raise UserError(f"{where}: tests must all be texts (assertions), or all have the keys input and output")


def _none(where: str) -> Tests:
    raise UserError(f"{where}: there are no tests; leave such rows out")


def _checked(test: str, where: str) -> str:
    try:
        compile(test, "test", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{where}: a test is no Python ({' '.join(str(error).split())}); mend the row") from None
    return test


def _call(function: str, arguments: Any, expected: Any, where: str) -> str:
    if not function.isidentifier():
        raise UserError(f"{where}: fn_name {function!r} is not the name of a function")
    given = arguments if isinstance(arguments, Sequence) and not isinstance(arguments, str) else [arguments]
    return f"assert {function}(*{list(given)!r}) == {expected!r}"


def _text(value: Any) -> str:
    """A program's input or output: text, or lines."""
    return value if isinstance(value, str) else "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def code_of(completion: str) -> str:
    """The last fenced block that is Python or has no language; without any fence the whole text; an unclosed fence runs to the end."""
    blocks = [body for language, body in _FENCE.findall(completion) if language.lower() in ("", "python", "python3", "py")]
    if blocks:
        return str(blocks[-1])
    opened = re.search(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*\n", completion, re.MULTILINE | re.IGNORECASE)
    return completion[opened.end() :] if opened else completion


def with_prefix(prefix: str, code: str, entry_point: str | None) -> str:
    """Code that continues the prefix (a function's head), or that defines the function anew after it."""
    whole = entry_point is None or re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", code, re.MULTILINE)
    return f"{prefix}\n{code}" if whole else prefix + code


def same_output(found: str, expected: str) -> bool:
    """Equal line by line, but for spaces at line ends and empty lines at the end."""
    return _lines(found) == _lines(expected)


def _lines(text: str) -> list[str]:
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip().split("\n")
