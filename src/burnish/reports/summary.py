"""summary.json: what an experiment of several arms found. Written by the quickstart, shown by report, terminal and card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from burnish.reports.run_files import finite
from burnish.runs import atomic


@dataclasses.dataclass(frozen=True)
class Arm:
    """One model measured: success on the held-out items with its 95 % interval. seconds: training time; flops: forward and backward."""

    name: str
    success: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    seconds: float | None = None
    flops: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing the experiment promised. wanted and got are short texts."""

    name: str
    passed: bool
    wanted: str = ""
    got: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """title and notes are shown as they are. seconds: of the whole experiment."""

    arms: tuple[Arm, ...] = ()
    checks: tuple[Check, ...] = ()
    title: str = ""
    notes: tuple[str, ...] = ()
    seconds: float | None = None

    def __bool__(self) -> bool:
        return bool(self.arms or self.checks or self.notes)

    def write(self, run_path: str | Path) -> Path:
        """Writes `summary.json` into the run folder, whole or not at all."""
        path = Path(run_path) / "summary.json"
        atomic.write_text(path, json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        return path

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Summary:
        """The inverse of `dataclasses.asdict`; unknown keys and malformed entries are passed over, for a report must always come about."""
        arms = tuple(arm for entry in _entries(data.get("arms")) if (arm := _arm(entry)) is not None)
        checks = tuple(
            Check(str(entry["name"]), bool(entry.get("passed")), str(entry.get("wanted", "")), str(entry.get("got", "")))
            for entry in _entries(data.get("checks"))
        )
        notes = data.get("notes") or ()
        return cls(
            arms=arms,
            checks=checks,
            title=str(data.get("title") or ""),
            notes=(notes,) if isinstance(notes, str) else tuple(map(str, notes)) if isinstance(notes, list | tuple) else (),
            seconds=data["seconds"] if finite(data.get("seconds")) else None,
        )


def _entries(value: Any) -> list[dict[str, Any]]:
    """A list of {"name": ...}, or a map name -> {...}."""
    if isinstance(value, dict):
        value = [{"name": name, **entry} for name, entry in value.items() if isinstance(entry, dict)]
    return [entry for entry in value if isinstance(entry, dict) and "name" in entry] if isinstance(value, list) else []


def _arm(entry: dict[str, Any]) -> Arm | None:
    success = entry.get("success")
    if isinstance(success, dict):  # an interval as `runs.stats.Interval.to_dict` writes it
        entry = {**entry, "success": success.get("mean"), **{key: success[key] for key in ("low", "high", "n") if key in success}}
    known = {key: entry[key] if finite(entry.get(key)) else None for key in ("success", "low", "high", "n", "seconds", "flops")}
    return Arm(name=str(entry["name"]), note=str(entry.get("note", "")), **known)
