"""Reading a run folder for reports: never writes, never fails; what is missing or broken is listed in `problems`."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from pathlib import Path
from typing import Any

from burnish.runs.errors import UserError
from burnish.runs.tolerant import by_step, finite, numbered, read_lines
from burnish.runs.yamlio import parse_yaml


@dataclasses.dataclass
class RunFiles:
    """What a run folder holds.

    config, summary: `config.yaml` and `summary.json` as dicts ({} where missing). config_text: the file as it stands.
    starts: what `run.json` says of each start of the run, the first and every resumption (command, versions, commit, threads, devices).
    metrics: rows of `metrics.jsonl`, one for each step, in order. evals: file stem -> dict. rollouts: step -> file.
    checkpoints: step -> folder, the whole ones; head: `state.json` of the newest.
    problems: one line for everything that is missing or damaged.
    """

    path: Path
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    config_text: str = ""
    starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    evals: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    rollouts: dict[int, Path] = dataclasses.field(default_factory=dict)
    checkpoints: dict[int, Path] = dataclasses.field(default_factory=dict)
    head: dict[str, Any] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A value of the config by its dotted name, e.g. `rl.group_size`."""
        value: Any = self.config
        for key in dotted.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return default if value is None else value

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and finite values of one metric. `eval/loss` is also found under `eval_loss`, the name it has in fine-tuning."""
        other = name.replace("eval/", "eval_", 1)
        values: list[tuple[int, Any]] = [(row["step"], row.get(name, row.get(other))) for row in self.metrics]
        pairs = [(step, float(value)) for step, value in values if finite(value)]
        return [step for step, _ in pairs], [value for _, value in pairs]

    def last(self, name: str) -> float | None:
        """The newest finite value of one metric."""
        values = self.series(name)[1]
        return values[-1] if values else None

    @property
    def stage(self) -> str:
        """ "sft", "rl", or "" where the run does not say."""
        if "stage" in self.config:
            return str(self.config["stage"])
        names = {name for row in self.metrics for name in row}
        return "rl" if "reward" in names else "sft" if "loss" in names else ""

    @property
    def steps(self) -> int:
        """Steps done so far."""
        return max((row["step"] for row in self.metrics), default=0)

    @property
    def total_steps(self) -> int | None:
        """Steps the run is to have: what the newest checkpoint says, else the config; None where neither does."""
        for found in (self.head.get("total_steps"), self.setting(f"{self.stage}.steps")):
            if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                return found
        return None

    @property
    def info(self) -> dict[str, Any]:
        """What `run.json` says of the newest start; {} where it is missing."""
        return self.starts[-1] if self.starts else {}

    @property
    def command(self) -> str:
        """The command that started the run (the first start, not a resumption), ready for a shell; "" where unknown."""
        command = self.starts[0].get("command", "") if self.starts else ""
        return shlex.join(map(str, command)) if isinstance(command, list) else str(command or "")

    def groups(self, step: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The first groups of one step, and how many more there are; broken lines are noted in `problems` and left out."""
        return [row for _, row in read_lines(self.rollouts[step], self.problems, limit)], max(0, count_lines(self.rollouts[step]) - limit)


def read_run(path: str | Path) -> RunFiles:
    """Everything reports need of a run folder. Raises UserError only where there is no folder or nothing of a run in it."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such run folder; give the folder that `burnish train` wrote (field output)")
    run = RunFiles(path=path)
    run.config, run.config_text = _read_config(path / "config.yaml", run.problems)
    run.starts = _read_starts(path / "run.json", run.problems)
    run.summary = read_json(path / "summary.json", run.problems, optional=True)
    run.metrics = _read_metrics(path / "metrics.jsonl", run.problems)
    for file in sorted((path / "evals").glob("*.json")):
        found = read_json(file, run.problems)
        if found:
            run.evals[file.stem] = found
    run.rollouts = numbered(path / "rollouts", r"step-(\d+)\.jsonl")
    for step, entry in numbered(path, r"checkpoint-(\d+)").items():
        head = read_json(entry / "state.json", run.problems)
        if head:
            run.checkpoints[step], run.head = entry, head
    if not (run.config_text or run.starts or run.metrics or run.summary or run.rollouts or run.checkpoints):
        raise UserError(f"{path}: not a run folder (no config.yaml, run.json or metrics.jsonl in it); give the folder a run wrote")
    _note_gaps(run)
    return run


def read_json(path: Path, problems: list[str], optional: bool = False) -> dict[str, Any]:
    """A JSON object; {} and a note where the file is missing (unless optional) or broken."""
    name = path.name if path.name != "state.json" else f"{path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not optional:
            problems.append(f"{name} is missing")
        return {}
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
        return {}
    if isinstance(value, dict):
        return value
    problems.append(f"{name} is not a JSON object")
    return {}


def count_lines(path: Path) -> int:
    """Lines of a file that are not blank; 0 where it cannot be read."""
    try:
        with path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except OSError:
        return 0


def _read_config(path: Path, problems: list[str]) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        problems.append("config.yaml is missing")
        return {}, ""
    try:
        value = parse_yaml(text, path.name)[0]
    except UserError as error:
        problems.append(str(error))
        return {}, text
    if not isinstance(value, dict):
        problems.append("config.yaml holds no settings")
        return {}, text
    return value, text


def _read_starts(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    found = read_json(path, problems)
    starts = found.get("starts")
    if isinstance(starts, list):
        return [start for start in starts if isinstance(start, dict)]
    if found:
        problems.append(f"{path.name} names no start of the run (key starts)")
    return []


def _read_metrics(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        problems.append("metrics.jsonl is missing: the run did not finish a step")
        return []
    rows, nameless = by_step(row for _, row in read_lines(path, problems))
    if nameless:
        problems.append(f"metrics.jsonl: {nameless} rows without a step; left out")
    if not rows:
        problems.append("metrics.jsonl is empty: the run did not finish a step")
    return rows


def _note_gaps(run: RunFiles) -> None:
    total = run.total_steps
    if total and run.metrics and run.steps < total:
        early = " (or stopped early: eval.patience is set)" if run.setting("eval.patience") else ""
        run.problems.append(f"unfinished: {run.steps} of {total} steps are done{early}")
    bad = {name for row in run.metrics for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
    if bad:
        run.problems.append(f"not finite somewhere (left out of plots and means): {', '.join(sorted(bad))}")
    if run.stage == "rl" and not run.rollouts:
        run.problems.append("no rollouts were kept, so there are no sample completions (field rl.keep_rollouts)")
