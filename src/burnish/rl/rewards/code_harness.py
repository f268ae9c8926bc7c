"""Runs inside the sandbox: a solution against function tests, each in a fork of its own, so that none spoils the next.

Standard library alone; not imported by burnish but handed to the sandbox as text. stdin: one JSON object with `solution`, `setup`, `tests`
(texts of Python), `seconds` for each test and `mark`. stdout: `mark ready`, then `mark <number> <passed, failed or time>` for each test.

This process never runs the solution itself; a fork does, and reports a pass with a word made for this test alone. A solution that sets out
to read that word from its own process's memory can forge a pass: assertions that run next to untrusted code cannot be kept safe from it.
"""

import contextlib
import json
import os
import select
import signal
import sys
import time


def main() -> None:
    """All tests, in order."""
    order = json.loads(sys.stdin.readline())
    mark = order.pop("mark")
    print(mark, "ready", flush=True)
    for number, test in enumerate(order["tests"]):
        word = os.urandom(16)
        print(mark, number, one(order["solution"], order["setup"], test, order["seconds"], word), flush=True)


def one(solution: str, setup: str, test: str, seconds: float, word: bytes) -> str:
    """What became of one test."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(ours)
        attempt(solution, setup, test, theirs, word)
    os.close(theirs)
    said, end = b"", time.monotonic() + seconds
    while len(said) < len(word) and (left := end - time.monotonic()) > 0 and select.select([ours], [], [], left)[0]:
        chunk = os.read(ours, len(word))
        if not chunk:
            break
        said += chunk
    late = time.monotonic() >= end
    for stop in (os.killpg, os.kill):  # by group; by process where it had not made its group yet
        with contextlib.suppress(OSError):
            stop(child, signal.SIGKILL)
    os.close(ours)
    os.waitpid(child, 0)
    return "passed" if said == word else "time" if late else "failed"


def attempt(solution: str, setup: str, test: str, report: int, word: bytes) -> None:
    """In the fork: the solution, the setup, the test, and the word where all went well. Does not return."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    try:
        space = {"__name__": "solution"}
        exec(compile(solution, "solution.py", "exec"), space)
        exec(compile(setup, "setup.py", "exec"), space)
        exec(compile(test, "test.py", "exec"), space)
        os.write(report, word)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
