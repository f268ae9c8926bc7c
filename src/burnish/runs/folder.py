"""Run: a folder with everything a run was and did.

    config.yaml        the resolved config          run.json    command, versions, commit, threads, devices, of each start
    metrics.jsonl      one row for each step        rollouts/   step-000012.jsonl
    checkpoint-N/      see `checkpoints`

metrics.jsonl is strict JSON: floats keep every bit; NaN and the infinities are written as the texts "NaN", "Infinity" and "-Infinity",
and `Run.metrics` gives them back as floats.
Of several ranks (`runs.ranks`) only the main one writes: what would write does nothing on the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.runs import atomic, environment, ranks
from burnish.runs.config import FREE_FIELDS, Config, diff_configs, plain, to_yaml
from burnish.runs.errors import UserError
from burnish.runs.tolerant import NOT_FINITE
from burnish.runs.yamlio import parse_yaml

SHOWN_CHANGES = 6


class Run:
    """An existing run folder. `Run.create` starts or resumes one.

    resuming: True where the run is to go on from what the folder holds.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.resuming = False
        self.writes = ranks.current().is_main
        self.free_fields: frozenset[str] = FREE_FIELDS
        self._last_step: int | None = None
        self._made: list[Path] = []
        self._there: frozenset[str] = frozenset()
        if not self.path.is_dir():
            raise UserError(f"there is no run folder {self.path}")

    @classmethod
    def create(cls, path: str | Path, config: Config | Mapping[str, Any], command: Sequence[str] | str = "", resume: bool = False) -> Run:
        """Makes the folder, or opens it to resume (a folder without a run in it is then started).

        Raises UserError where the folder holds a run and `resume` is False, where the config differs from the one the run was
        started with (fields of `free_fields` excepted; the difference is in the message), or where the folder cannot be written.
        """
        path = Path(path)
        here = ranks.current()
        if here.world > 1:
            started = here.broadcast(cls._create(path, config, command, resume).resuming if here.is_main else None)
            run = cls(path)
            run.free_fields, run.resuming = getattr(config, "free_fields", FREE_FIELDS), started
            return run
        return cls._create(path, config, command, resume)

    @classmethod
    def _create(cls, path: Path, config: Config | Mapping[str, Any], command: Sequence[str] | str, resume: bool) -> Run:
        started = cls.check(path, config, resume)
        missing = [one for one in (path, *path.parents) if not one.exists()]
        with atomic.explained(path):
            path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.free_fields, run.resuming, run._made = getattr(config, "free_fields", FREE_FIELDS), started, missing
        atomic.sweep(path)
        run._there = frozenset(os.listdir(path))
        _check_writable(path)
        starts = json.loads(run.info_path.read_text(encoding="utf-8"))["starts"] if run.info_path.exists() else []
        words = command if isinstance(command, str) else list(command)
        world = {"ranks": ranks.current().world} if ranks.current().world > 1 else {}
        info = {"starts": [*starts, {"command": words, **world, **environment.describe()}]}
        atomic.write_text(run.info_path, json.dumps(info, indent=1) + "\n")
        atomic.write_text(run.config_path, to_yaml(config))  # last: a folder with a config is a started run
        return run

    @classmethod
    def check(cls, path: str | Path, config: Config | Mapping[str, Any], resume: bool = False) -> bool:
        """Refuses what `create` would refuse, before anything is loaded or written; returns whether the folder holds a run to resume."""
        path = Path(path)
        atomic.refuse_unwritable(path)
        if not path.is_dir():
            return False
        run = cls(path)
        run.free_fields = getattr(config, "free_fields", FREE_FIELDS)
        started = run.config_path.exists()
        if not started and any(name in os.listdir(path) for name in ("metrics.jsonl", "rollouts")):
            raise UserError(f"{path} holds results but no config.yaml; choose another folder")
        if started and not resume:
            raise UserError(f"{path} holds a run already; resume it (--resume) or choose another folder")
        if started:
            run._refuse_changes(config)
        return started

    def discard(self) -> bool:
        """Takes back what a run has written that failed before its first step ended: it would only stand in the way of the next try.

        A run that was resumed, or has done a step, stays (False). What else the folder held before stays in any case.
        """
        if self.resuming or not self.writes or (self.last_step or 0) > 0:
            return False
        # config.yaml last: a folder that a kill leaves half emptied still counts as a started run, and can be resumed
        for name in sorted(set(os.listdir(self.path)) - self._there, key=lambda name: name == self.config_path.name):
            entry = self.path / name
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() and not entry.is_symlink() else entry.unlink(missing_ok=True)
        for folder in self._made:  # the innermost first; one that holds something else by now stays, and so do those around it
            with contextlib.suppress(OSError):
                folder.rmdir()
        return True

    def _refuse_changes(self, config: Config | Mapping[str, Any]) -> None:
        changes = diff_configs(without(self.config, self.free_fields), without(plain(config), self.free_fields))
        if changes:
            more = len(changes) - SHOWN_CHANGES
            shown = "; ".join(changes[:SHOWN_CHANGES]) + (f"; and {more} more" if more > 0 else "")
            raise UserError(f"{self.path} was started with another config ({shown}); resume with the same one or choose another folder")

    @property
    def config_path(self) -> Path:
        """config.yaml"""
        return self.path / "config.yaml"

    @property
    def info_path(self) -> Path:
        """run.json"""
        return self.path / "run.json"

    @property
    def metrics_path(self) -> Path:
        """metrics.jsonl"""
        return self.path / "metrics.jsonl"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        try:
            return parse_yaml(self.config_path.read_text(encoding="utf-8"), str(self.config_path))[0] or {}
        except OSError as error:
            raise UserError(f"{self.path} is not a run folder: cannot read {self.config_path.name}: {error.strerror}") from None

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says of the newest start (command, versions, commit, threads, devices)."""
        return json.loads(self.info_path.read_text(encoding="utf-8"))["starts"][-1]

    @property
    def config_hash(self) -> str:
        """Names the config, the fields that may change left out."""
        text = json.dumps(without(self.config, self.free_fields), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    # -- metrics

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends `{"step": step, **metrics}` as one whole line. Steps must rise.

        Raises UserError where the disk is full (no part of the line then stays), TypeError for a value that is no number or text.
        """
        if not self.writes:
            return
        last = self.last_step
        if last is not None and step <= last:
            raise ValueError(f"metrics of step {step} logged after those of step {last}")
        line = json.dumps({"step": step, **{key: _number(key, value) for key, value in metrics.items()}}, allow_nan=False) + "\n"
        append_line(self.metrics_path, line)
        self._last_step = step

    @property
    def last_step(self) -> int | None:
        """The last step logged, or None. Also drops a torn last line, once."""
        if self._last_step is None and self.metrics_path.exists():
            rows = _whole_lines(self.metrics_path, mend=self.writes)
            self._last_step = json.loads(rows[-1])["step"] if rows else None
        return self._last_step

    def metrics(self) -> list[dict[str, Any]]:
        """All rows, in order; a torn last line is left out."""
        rows = [json.loads(line) for line in _whole_lines(self.metrics_path)] if self.metrics_path.exists() else []
        return [{key: NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]

    # -- rollouts

    def save_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes `rollouts/step-000012.jsonl` in one step (NaN is refused: write None)."""
        if not self.writes:
            return
        path = self._rollouts_path(step)
        with atomic.explained(path):
            path.parent.mkdir(exist_ok=True)
        atomic.write_text(path, "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows))

    def rollouts(self, step: int) -> list[dict[str, Any]]:
        """The rows saved for a step; empty where there are none."""
        path = self._rollouts_path(step)
        return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []

    def rollout_steps(self) -> list[int]:
        """The steps that have rollouts, rising."""
        found = (re.fullmatch(r"step-(\d+)\.jsonl", path.name) for path in (self.path / "rollouts").glob("step-*.jsonl"))
        return sorted(int(match.group(1)) for match in found if match)

    def _rollouts_path(self, step: int) -> Path:
        return self.path / "rollouts" / f"step-{step:06d}.jsonl"

    def drop_after(self, step: int) -> None:
        """Forgets metrics and rollouts of later steps (and a torn last line): what a resumed run will write again. -1 forgets all."""
        if not self.writes:
            return
        atomic.sweep(self.path / "rollouts")
        if self.metrics_path.exists():
            lines = _whole_lines(self.metrics_path)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            if len(kept) < len(lines) or self.metrics_path.stat().st_size != sum(len(line.encode()) + 1 for line in lines):
                atomic.write_text(self.metrics_path, "".join(line + "\n" for line in kept))
        self._last_step = None
        for later in (found for found in self.rollout_steps() if found > step):
            self._rollouts_path(later).unlink()


def without(value: Any, free: Iterable[str]) -> Any:
    """A nested config without the fields of these names."""
    if isinstance(value, Mapping):
        return {key: without(item, free) for key, item in value.items() if key not in free}
    return value


def append_line(path: Path, line: str) -> None:
    """Appends one whole line: one write; where the disk takes only a part, that part is taken back and a UserError raised."""
    data = line.encode()
    with atomic.explained(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(handle).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(handle, data[written:])
            except OSError:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def _whole_lines(path: Path, mend: bool = False) -> list[str]:
    """The lines that end; the rest of a torn one is left out (and, with `mend`, cut off).

    Raises UserError for a broken line in the middle.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if mend and end < len(data):
        with atomic.explained(path), open(path, "r+b") as file:
            file.truncate(end)
    lines = data[:end].decode("utf-8").split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError:
            raise UserError(f"{path}, line {number} is not JSON; mend or remove the line") from None
    return lines


def _number(key: str, value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "shape", None) is not None:
        value = value.item()  # numpy and torch scalars; more than one element raises
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    raise TypeError(f"metric {key!r} is a {type(value).__name__}; it must be a number or a short text")


def _check_writable(path: Path) -> None:
    probe = path / f"{atomic.TEMPORARY}probe-{os.getpid()}"
    with atomic.explained(path):
        probe.write_bytes(b"")
        probe.unlink()
