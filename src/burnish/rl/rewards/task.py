"""task: a task of `burnish.tasks` as a reward, by name: {"name": "task", "task": "sort", "difficulty": 4}."""

from __future__ import annotations

from typing import Any

from burnish.rl.rewards.verifier import Verifier
from burnish.runs.parts import make


class TaskVerifier(Verifier):
    """task: the task's name (see `burnish.tasks`), "file.py:name" or an object. settings: the task's own fields."""

    def __init__(self, task: Any, **settings: Any):
        made = make("burnish.tasks", {"name": task, **settings}) if isinstance(task, str) else task
        super().__init__(made() if isinstance(made, type) else made)


part = TaskVerifier
