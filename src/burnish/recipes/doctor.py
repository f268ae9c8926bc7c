"""`doctor(run)`: what is wrong with a run, asked of the doctor's own checks and of every method that brings one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from burnish.rl.doctor.examine import ROOMS, examine
from burnish.rl.doctor.finding import Diagnosis

MORE_ROOMS = ("burnish.sft", "burnish.tasks.environments", "burnish.discovery", "burnish.agents", "burnish.evaluation")


def doctor(run: str | Path) -> Diagnosis:
    """The diagnosis of a run folder: `.verdict`, `.findings` (each with evidence and remedy), `.invariants`, `.to_dict()`.

    Raises UserError where there is no run in the folder.
    """
    return examine(run, (*ROOMS, *(room for room in MORE_ROOMS if _there(room))))


def _there(package: str) -> bool:
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return False
    return found is not None and found.submodule_search_locations is not None
