"""Code tests: the forms of tests, what counts as passed, cheats and hangs, broken sandboxes, and refusal without one by name."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from burnish.chat.messages import user
from burnish.chat.sandbox.process import Ran
from burnish.records import Item, Rollout, Turn
from burnish.rl.rewards.code_cases import code_of, read_tests, same_output, with_prefix
from burnish.rl.rewards.code_tests import CodeTests
from burnish.rl.rewards.weighted import Weighted
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

MBPP = {"test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"]}


def group(texts, prompt=None, **columns) -> Completions:
    rollouts = [Rollout("q", i, [Turn([1], [2], np.zeros(1))]) for i in range(len(texts))]
    return Completions(Item("q", prompt or [user("Write add.")], len(texts), columns=columns), rollouts, list(texts))


def shares(part, texts, **columns):
    return [None if score.invalid else round(score.reward, 3) for score in part(group(texts, **columns))]


@pytest.fixture(scope="module")
def part():
    return CodeTests("process", seconds=5.0)


def test_share_of_assertions(part):
    texts = [
        "Here:\n```python\ndef add(a, b):\n    return a + b\n```\nDone.",
        "def add(a, b):\n    return abs(a) + b",
        "def add(a, b): return",
        "no code at all",
        "```python\n```",
        "def add(a, b):\n    print('x' * 10**6)\n    return a + b\nif __name__ == '__main__': 1 / 0",
    ]
    found = part(group(texts, **MBPP))
    assert [round(score.reward, 3) for score in found] == [1.0, 0.667, 0.0, 0.0, 0.0, 1.0]
    assert [score.success for score in found] == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert found[1].extras == {"tests_passed": 2, "tests": 3, "sandbox": "process", "test_failure": "failed"}
    assert found[0].parts == {"code_tests": 1.0}
    assert not any(score.invalid for score in found)


def test_cheap_cheats_fail(part):
    cheats = [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'x' * 16)\n    except OSError: pass\nos._exit(0)",
        "print('passed ' * 100)",
        "raise SystemExit",
        "import os\nos.fork()\nos.setsid()",
    ]
    assert shares(part, cheats, **MBPP) == [0.0] * len(cheats)


def test_hangs_and_memory_cost_their_test_alone():
    part = CodeTests("process", seconds=0.5, memory_mb=300)
    text = "def add(a, b):\n    while a == 0: pass\n    x = bytearray(10**9) if a < 0 else 0\n    return a + b"
    found = part(group([text], **MBPP))[0]
    assert (round(found.reward, 3), found.extras["test_failure"]) == (0.333, "time")
    assert shares(part, ["while True: pass"], tests=[{"input": "", "output": ""}]) == [0.0]
    assert shares(part, ["x = bytearray(10**9); print(1)"], tests=[{"input": "", "output": "1"}]) == [0.0]


def test_programs_with_input_and_output(part):
    program = "n = int(input())\nprint(sum(map(int, input().split())), ' ')\nprint()"
    cases = [{"input": "2\n1 2\n", "output": "3"}, {"input": "1\n5", "output": "5\n"}, {"input": "1\n5", "output": "6"}]
    assert shares(part, [program, "print(3)", "print(3); exit(1)"], tests=cases) == [0.667, 0.333, 0.0]
    assert shares(part, [program], input_output=json.dumps({"inputs": ["2\n1 2\n"], "outputs": [["3"]]})) == [1.0]


def test_test_programs_prefixes_and_setup(part):
    head = 'def double(x):\n    """Twice x."""\n'
    check = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n"
    row = {"test": check, "entry_point": "double", "head": head}
    prefixed = CodeTests("process", prefix="head")
    assert shares(prefixed, ["    return 2 * x\n", "def double(x): return x + x", "    return x"], **row) == [1.0, 1.0, 0.0]
    assert shares(part, ["def make(n): return [n]"], tests=["assert items == [7]"], test_setup_code="items = make(7)") == [1.0]
    assert shares(part, ["def add(a, b): return a + b"], tests={"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}) == [1.0]


def test_from_the_prompt_of_token_ids():
    part = Weighted([CodeTests("process", prefix="prompt")])
    part.bind(lambda ids: "def double(x):\n")
    one = group(["    return 2 * x"], prompt=[1, 2], test="assert double(2) == 4")
    assert part(one)[0].reward == 1.0


def test_equal_programs_run_once_and_a_broken_sandbox_is_invalid(part, monkeypatch):
    runs = []
    own = part.sandbox.run

    def counted(*args, **kwargs):
        runs.append(args)
        return own(*args, **kwargs)

    monkeypatch.setattr(part.sandbox, "run", counted)
    assert shares(part, ["def add(a, b): return a + b"] * 4, **MBPP) == [1.0] * 4
    assert len(runs) == 1
    monkeypatch.setattr(part.sandbox, "run", lambda *args, **kwargs: Ran("broken", stderr="no more processes"))
    found = part(group(["def add(a, b): return a + b"], **MBPP))[0]
    assert (found.invalid, found.extras["reason"]) == (True, "code_tests: no more processes")
    assert shares(part, ["print(1)"], tests=[{"input": "", "output": "1"}]) == [None]


def test_refusals():
    for settings, words in [
        ({}, "no sandbox is named"),
        ({"sandbox": "strict"}, "strict does not exist yet"),
        ({"sandbox": "process", "memory_mb": 1}, "an empty program does not run"),
        ({"sandbox": "process", "limits": {"seconds": -1}}, "seconds is -1"),
    ]:
        with pytest.raises(UserError, match=words):
            Weighted([{"name": "code_tests", **settings}])
    part = CodeTests("process")
    for columns, words in [
        ({"answer": 4}, "has no column of tests; columns there: answer"),
        ({"tests": []}, "there are no tests"),
        ({"tests": ["assert ("]}, "a test is no Python"),
        ({"tests": [{"input": "x"}]}, "must all be texts"),
        ({"tests": {"inputs": ["1"], "outputs": []}}, "1 inputs but 0 outputs"),
        ({"tests": 7}, "int is no list of tests"),
    ]:
        with pytest.raises(UserError, match=words):
            part(group(["x"], **columns))


def test_reading_of_completions_and_outputs():
    assert code_of("a\n```\nfirst\n```\n```py\nlast\n```\n```json\n{}\n```") == "last\n"
    assert code_of("text\n```python\nx = 1\n") == "x = 1\n"
    assert code_of("x = 1") == "x = 1"
    assert with_prefix("def f(x):\n", "    return x", "f") == "def f(x):\n    return x"
    assert same_output("1 \r\n2\n\n", "1\n2")
    assert not same_output("1\n\n2", "1\n2")
    assert len(read_tests(["assert a", "assert b"], None, "w")) == 2


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("BURNISH_DATA"), reason="BURNISH_DATA is not set")
def test_reference_solutions_of_public_sets_pass():
    folder = Path(os.environ["BURNISH_DATA"]) / "code"
    part = CodeTests("process", seconds=10.0)
    rows = [json.loads(line) for line in (folder / "mbpp.jsonl").read_text().splitlines()[::60]]
    assert len(rows) > 15
    assert all(shares(part, [row.pop("code")], **row) == [1.0] for row in rows)
    part = CodeTests("process", seconds=10.0, prefix="head")
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::10]
    assert all(shares(part, [row["canonical_solution"]], head=row["prompt"], **row) == [1.0] for row in rows)
