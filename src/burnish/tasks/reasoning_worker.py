"""The process in which sympy judges formulas for reasoning-gym: started by `tasks.reasoning_gym` through `tasks.worker`.

{"dataset": name, "config": {...}, "answer": text, "entry": {...}} -> {"score": number}.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from burnish.tasks.worker import serve


def prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Imports reasoning-gym; the function that scores."""
    warnings.simplefilter("ignore")
    import reasoning_gym

    def score(question: dict[str, Any]) -> dict[str, Any]:
        dataset = reasoning_gym.create_dataset(question["dataset"], **question["config"])
        try:
            return {"score": float(dataset.score_answer(question["answer"], question["entry"]))}
        except Exception as error:  # the answer's fault: scorers raise on answers they cannot read
            return {"score": 0.0, "error": type(error).__name__}

    return score


if __name__ == "__main__":
    serve(prepare)
