"""`examine(path)`: every check on one run. No check can stop another, and no damaged file stops the doctor."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from burnish.rl.doctor.finding import ORDER, Diagnosis, Finding, TooLittle
from burnish.rl.doctor.invariants import invariants
from burnish.rl.doctor.reading import RunView

CHECKS = "burnish.rl.doctor.checks"
ROOMS = (
    "burnish.rl.curricula",
    "burnish.rl.rollouts",
    "burnish.rl.rewards",
    "burnish.rl.filters",
    "burnish.rl.credit",
    "burnish.rl.objectives",
)
"""Where methods live whose modules may export `diagnose(run)`; rooms above add their own."""

Check = Callable[[RunView], list[Finding]]


def examine(path: str | Path, rooms: Sequence[str] = ROOMS) -> Diagnosis:
    """What is wrong with the run in this folder, most fundamental first.

    rooms: packages whose modules are asked for a `diagnose(run) -> list[Finding]` besides the doctor's own; it may raise `TooLittle`.
    Raises UserError only where the path is no run folder at all.
    """
    run = RunView(path)
    findings: list[Finding] = []
    checks: dict[str, str] = {}
    for name, check in found_checks(rooms, run.problems):
        try:
            found = list(check(run))
        except TooLittle as reason:
            checks[name] = str(reason)
            continue
        except Exception as error:  # a run that no check foresaw
            checks[name] = f"could not tell: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            run.problems.append(f"check {name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        checks[name] = "found" if any(one.severity != "note" for one in found) else "clear"
        findings += found
    findings.sort(key=lambda one: (ORDER.get(one.severity, 2), one.cause, one.id))
    kept = tuple(invariants(run))
    return Diagnosis(str(run.path), run.stage, run.steps, tuple(findings), kept, checks, tuple(dict.fromkeys(run.problems)))


def found_checks(rooms: Sequence[str], problems: list[str]) -> Iterator[tuple[str, Check]]:
    """(name, diagnose) of the doctor's own modules, then of method modules; one that does not load is noted and left out."""
    for package in (CHECKS, *rooms):
        try:
            listed = list(pkgutil.iter_modules(importlib.import_module(package).__path__))
        except ImportError as error:
            problems.append(f"checks of {package} cannot be loaded: {error}")
            continue
        for info in listed:
            if info.name.startswith("_"):
                continue
            try:
                module = importlib.import_module(f"{package}.{info.name}")
            except ImportError:  # a method whose extra is not installed: no run of it can be here
                continue
            if callable(getattr(module, "diagnose", None)):
                yield info.name if package == CHECKS else f"{package.rpartition('.')[2]}.{info.name}", module.diagnose
