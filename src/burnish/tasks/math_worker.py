"""The process in which answers meet math-verify: started by `tasks.math` through `tasks.worker`, never imported by it.

{"gold": text, "answer": text} -> {"equal": bool, "gold_parsed": bool}. sympy can spend hours inside one multiplication, where no signal is
heard and no thread can be stopped: hence a process that can be killed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from burnish.tasks.worker import serve


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Imports math-verify; the function that compares."""
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    def read(*readings: str) -> list[Any]:
        # No timeout of math-verify's own: it is an alarm, which neither threads nor long C calls hear.
        return next((found for text in readings if (found := parse(text, parsing_timeout=None))), [])

    def compare(question: dict[str, Any]) -> dict[str, Any]:
        gold_text, answer_text = question["gold"], question["answer"]
        # A gold is all mathematics and read as one formula first; an answer may be a sentence, and is so read unless it has LaTeX in it.
        gold = read(in_dollars(gold_text), gold_text)
        latex_first = "\\" in answer_text
        answer = read(in_dollars(answer_text), answer_text) if latex_first else read(answer_text, in_dollars(answer_text))
        equal = bool(gold) and bool(answer) and verify(gold, answer, timeout_seconds=None)
        return {"equal": bool(equal), "gold_parsed": bool(gold)}

    return compare


def in_dollars(text: str) -> str:
    """The text as one LaTeX formula, unless it already says what is one."""
    return text if any(mark in text for mark in ("$", "\\(", "\\[", "\\boxed")) else f"${text}$"


if __name__ == "__main__":
    serve(prepare)
