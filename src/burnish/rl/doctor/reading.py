"""The run folder as the doctor reads it: never writes, never fails; what is missing or torn is listed in `problems`."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.rl.doctor.finding import UNREADABLE
from burnish.runs.errors import UserError
from burnish.runs.tolerant import by_step, finite, numbered, read_lines
from burnish.runs.yamlio import parse_yaml

FILES, BYTES = 60, 200_000_000
"""At most so many rollout files, evenly spread over the run, and about so many bytes of them."""
NAMES = ("config.yaml", "run.json", "metrics.jsonl")
"""Files of which a run folder has at least one, whole or damaged."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One completion. size: its output tokens. loss_size: those that may be trained on. ended: by the policy, not by a limit.

    success is None where unknown; reason: why it is invalid.
    """

    text: str
    reward: float
    success: float | None
    invalid: bool
    stop: str
    size: int
    loss_size: int
    ids: tuple[int, ...]
    kept: bool
    reason: str = ""

    @property
    def ended(self) -> bool:
        """False where a limit cut it off."""
        return self.stop not in ("length", "turns", "truncated")


@dataclasses.dataclass(frozen=True)
class SampledGroup:
    """The completions of one item in one step."""

    step: int
    item: str
    prompt: Any
    columns: dict[str, Any]
    samples: tuple[Sample, ...]

    @property
    def valid(self) -> list[Sample]:
        """Those whose score counts."""
        return [one for one in self.samples if not one.invalid and math.isfinite(one.reward)]


class RunView:
    """What the files of a run say. Methods' own `diagnose(run)` get one of these.

    path, config, start (start.json), data (data.json), metrics (rows of metrics.jsonl in order of step), problems.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.problems: list[str] = []
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such run folder; give the folder that `burnish train` wrote (field output)")
        self.config = self._yaml("config.yaml")
        self.start = self._json("start.json")
        self.data = self._json("data.json")
        self.info = self._json("run.json")
        self.metrics = self._rows()
        self.rollout_files = numbered(self.path / "rollouts", r"step-(\d+)\.jsonl")
        self.checkpoints = numbered(self.path, r"checkpoint-(\d+)")
        if not (self.rollout_files or self.checkpoints or any((self.path / name).exists() for name in NAMES)):
            raise UserError(f"{path}: not a run folder (no config.yaml, run.json or metrics.jsonl in it); give the folder a run wrote")

    # --- settings and metrics

    def setting(self, dotted: str, default: Any = None) -> Any:
        """A value of the config by its dotted name, e.g. `rl.group_size`."""
        value: Any = self.config
        for key in dotted.split("."):
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return default if value is None else value

    @property
    def stage(self) -> str:
        """ "sft", "rl", or "" where the run does not say."""
        if self.config.get("stage") in ("sft", "rl"):
            return str(self.config["stage"])
        names = {name for row in self.metrics for name in row}
        return "rl" if "reward" in names else "sft" if "loss" in names else ""

    @property
    def steps(self) -> int:
        """Steps done."""
        return max((row["step"] for row in self.metrics), default=0)

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and finite values of one metric; step 0 (an evaluation before the first) only for metrics of evaluations."""
        pairs = [(row["step"], row.get(name)) for row in self.metrics if row["step"] > 0 or name.startswith("eval")]
        found = [(step, float(value)) for step, value in pairs if finite(value)]
        return [step for step, _ in found], [value for _, value in found]

    def fact(self, name: str) -> dict[str, Any]:
        """A fact of start.json, such as "prompts". Raises KeyError where it was not taken down."""
        value = self.start.get(name)
        if not isinstance(value, dict) or "unknown" in value:
            raise KeyError(name)
        return value

    # --- rollouts

    @functools.cached_property
    def groups(self) -> list[SampledGroup]:
        """The groups of the kept rollouts, at most `FILES` steps of them, in order of step; what cannot be read is left out and noted."""
        out: list[SampledGroup] = []
        budget = BYTES
        for step in spread(list(self.rollout_files), FILES):
            file = self.rollout_files[step]
            try:
                budget -= file.stat().st_size
            except OSError:
                continue
            if budget < 0 and out:
                self.problems.append(f"rollouts after {out[-1].step} were not read: they are more than {BYTES:,} bytes")
                break
            for number, row in read_lines(file, self.problems):
                try:
                    out.append(_group(step, row))
                except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                    self.problems.append(
                        f"{file.name}, line {number}: a group lacks what it should have ({type(error).__name__}); left out"
                    )
        return out

    def samples(self) -> Iterator[tuple[SampledGroup, Sample]]:
        """All valid completions with their groups."""
        for group in self.groups:
            for one in group.valid:
                yield group, one

    # --- files

    def _rows(self) -> list[dict[str, Any]]:
        path, notes = self.path / "metrics.jsonl", len(self.problems)
        rows, nameless = by_step(row for _, row in read_lines(path, self.problems))
        if nameless and rows:
            self.problems.append(f"metrics.jsonl: {nameless} rows have no step; left out")
        if not rows and path.exists():
            damaged = len(self.problems) - notes
            seen = [f"{damaged} damaged lines" if damaged else "", f"{nameless} rows without a step" if nameless else ""]
            self.problems.insert(notes, f"{UNREADABLE} ({' and '.join(one for one in seen if one) or 'it is empty'})")
        return rows

    def _yaml(self, name: str) -> dict[str, Any]:
        try:
            value = parse_yaml((self.path / name).read_text(encoding="utf-8", errors="replace"), name)[0]
        except FileNotFoundError:
            self.problems.append(f"{name} is missing")
            return {}
        except Exception as error:  # the parser has errors of its own for bytes that are no text
            self.problems.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
            return {}
        return value if isinstance(value, dict) else {}

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            self.problems.append(f"{name} is missing")
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
            return {}
        return value if isinstance(value, dict) else {}


def spread(values: list[int], n: int) -> list[int]:
    """At most n of the values, evenly spread, the first and the last among them."""
    if len(values) <= n:
        return values
    return [values[round(index * (len(values) - 1) / (n - 1))] for index in range(n)]


def _group(step: int, row: dict[str, Any]) -> SampledGroup:
    item, rollouts, scores = row["item"], row["rollouts"], row["scores"]
    texts = row.get("texts") or [""] * len(rollouts)
    kept = row.get("kept") or [True] * len(rollouts)
    columns = item.get("columns")
    samples = tuple(_sample(*one) for one in zip(rollouts, scores, texts, kept, strict=True))
    return SampledGroup(step, str(item["id"]), item.get("prompt"), columns if isinstance(columns, dict) else {}, samples)


def _sample(rollout: dict[str, Any], score: dict[str, Any], text: str, kept: bool) -> Sample:
    turns = rollout["turns"]
    ids = tuple(token for turn in turns for token in turn["output_ids"])
    forced = sum(len(turn["output_ids"]) if not turn.get("train", True) else sum(turn.get("injected") or []) for turn in turns)
    reward, success = score.get("reward"), score.get("success")
    return Sample(
        text=str(text),
        reward=float(reward) if finite(reward) else math.nan,
        success=float(success) if finite(success) else None,
        invalid=bool(score.get("invalid")),
        stop=str(rollout.get("stop", "")),
        size=len(ids),
        loss_size=len(ids) - forced,
        ids=ids,
        kept=bool(kept),
        reason=str((score.get("extras") or {}).get("reason", "")),
    )
