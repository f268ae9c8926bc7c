"""Tensorboard, wandb and trackio through accelerate. metrics.jsonl is written in any case, by the run folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.runs.config import Config, plain
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.folder import Run

NAMES = ("tensorboard", "trackio", "wandb")


class Tracker:
    """One tracker of accelerate, opened at its first row: a resumed tensorboard run thus replaces the steps it does again."""

    def __init__(self, name: str, run: Run, config: Config | Mapping[str, Any]):
        self.name, self.run = name, run
        self.config = flat_scalars(plain(config))
        self._tracker: Any = None

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """Sends the numbers of a row (texts and None are left to metrics.jsonl)."""
        values = {key: float(value) for key, value in row.items() if _is_number(value)}
        self._open(step).log(values, step=step)

    def finish(self) -> None:
        """Flushes and closes."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None

    def _open(self, step: int) -> Any:
        if self._tracker is None:
            from accelerate import PartialState
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS

            PartialState()  # accelerate's trackers log through it
            kind = LOGGER_TYPE_TO_CLASS[self.name]
            run_name = self.run.path.resolve().name
            if self.name == "tensorboard":
                tracker = kind(self.name, logging_dir=str(self.run.path), purge_step=step)
            else:
                first = json.loads(self.run.info_path.read_text(encoding="utf-8"))["starts"][0]["time"]
                mark = hashlib.blake2b(f"{self.run.path.resolve()} {first}".encode(), digest_size=8).hexdigest()
                resume = {"id": mark, "resume": "allow"} if self.name == "wandb" else {"resume": "allow"}
                tracker = kind("burnish", name=run_name, **resume)
            if hasattr(tracker, "start"):
                tracker.start()
            if self.name != "tensorboard":  # there it would make a second run of "hparams"; config.yaml holds them
                tracker.store_init_configuration(self.config)
            self._tracker = tracker
        return self._tracker


def make(names: str | Sequence[str] | None, run: Run, config: Config | Mapping[str, Any]) -> list[Tracker]:
    """Trackers by name ("none" and empty give none). Raises UserError for one that is unknown or not installed."""
    return [Tracker(name, run, config) for name in check(names)]


def check(names: str | Sequence[str] | None) -> list[str]:
    """The names without "none". Raises UserError for one that is unknown or not installed."""
    wanted = [name for name in ([names] if isinstance(names, str) else names or ()) if name != "none"]
    for name in wanted:
        if name not in NAMES:
            raise UserError(f"unknown tracker {name!r}; {did_you_mean(name, NAMES)}")
        if importlib.util.find_spec(name) is None:
            raise UserError(f"the tracker {name!r} is not installed; pip install {name}")
    return wanted


def flat_scalars(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested config as `a.b: scalar`; lists become text."""
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in flat_scalars(item, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: value if isinstance(value, (int, float, str)) else str(value)}


def _is_number(value: Any) -> bool:
    return not isinstance(value, str) and value is not None and (isinstance(value, (int, float)) or getattr(value, "shape", None) == ())
