"""Finding: one thing that is wrong with a run, with its evidence and its remedy. Too little to tell is an answer, too: `TooLittle`."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

Severity = Literal["fault", "warning", "note"]
ORDER: dict[str, int] = {"fault": 0, "warning": 1, "note": 2}


@dataclasses.dataclass(frozen=True)
class Finding:
    """id: its name, the same in every run. severity: "fault" (the run's result is not what it seems, or nothing can come of it),
    "warning" (it costs something), "note" (good to know, nothing to mend).

    sentence: what is wrong. evidence: figures with their steps, an example. remedy: what to change, by the name of the setting.
    cause: where in the chain from data to weights it lies; lower numbers bring higher ones about, and are told first.
    """

    id: str
    severity: Severity
    sentence: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    cause: int = 50

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"evidence": list(self.evidence)}


class TooLittle(Exception):
    """Raised by a check that cannot tell: the run is too short, or does not record what the check reads. The text says which."""


@dataclasses.dataclass(frozen=True)
class Invariant:
    """One promise of the house, as far as this run's files can show it. state: "held", "broken" or "not measured". why: the figure."""

    name: str
    state: Literal["held", "broken", "not measured"]
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All that was found. checks: name -> "clear", "found", or why it could not tell. problems: what could not be read of the run."""

    run: str
    stage: str
    steps: int
    findings: tuple[Finding, ...]
    invariants: tuple[Invariant, ...]
    checks: dict[str, str]
    problems: tuple[str, ...]

    @property
    def alarms(self) -> list[Finding]:
        """Faults and warnings."""
        return [finding for finding in self.findings if finding.severity != "note"]

    @property
    def verdict(self) -> str:
        """ "faulty", "warnings" or "healthy"; where nothing is wrong: "too short to tell", or "not enough to tell" where a core check of
        the stage (`CORE`) could not judge, for a run that does not show what these read may have any of their faults."""
        if any(finding.severity == "fault" for finding in self.findings) or any(one.state == "broken" for one in self.invariants):
            return "faulty"
        if self.alarms:
            return "warnings"
        if any(problem.startswith(UNREADABLE) for problem in self.problems):
            return "not enough to tell"
        if self.steps < MIN_STEPS:
            return "too short to tell"
        return "not enough to tell" if self.stage not in CORE or self.untold else "healthy"

    @property
    def untold(self) -> list[str]:
        """Core checks of the run's stage that could not judge."""
        return [name for name in CORE.get(self.stage, ()) if self.checks.get(name) not in ("clear", "found")]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run": self.run,
            "stage": self.stage,
            "steps": self.steps,
            "verdict": self.verdict,
            "findings": [finding.to_dict() for finding in self.findings],
            "invariants": [one.to_dict() for one in self.invariants],
            "checks": self.checks,
            "problems": list(self.problems),
        }


MIN_STEPS = 5
"""Fewer steps than this are too few to call a run healthy."""
CORE = {"rl": ("groups", "sampler", "steps"), "sft": ("steps", "limits")}
"""Checks that must have judged before a run is called healthy: whether it can learn at all, and from what it says it learns from."""
UNREADABLE = "metrics.jsonl holds no row that can be read"
"""How the note begins that says that there is a metrics.jsonl and nothing in it can be used."""
