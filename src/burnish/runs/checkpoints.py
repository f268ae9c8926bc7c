"""Checkpoints of a run: whole or absent, the newest and the best kept.

checkpoint-N/    the model in Hugging Face form (written by `save_model`), state.safetensors and state.json:
                 weights to the bit, optimisers, schedules, averages, snapshots, parts, random generators, step
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from burnish.runs import atomic, stateio
from burnish.runs.ranks import Ranks

_NAME = re.compile(r"checkpoint-(\d+)")


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lives."""
    return folder / f"checkpoint-{step}"


def save(folder: Path, step: int, state: Mapping[str, Any], head: Mapping[str, Any], save_model: Callable[[Path], None] | None) -> Path:
    """Writes `checkpoint-N` in one step. head: plain JSON values readable without the tensors. Raises UserError where the disk is full."""
    target = path_of(folder, step)
    with atomic.folder(target) as temporary:
        if save_model is not None:
            save_model(temporary)
        stateio.save(temporary, "state", state, lambda: {"step": step, **head, "files": _sizes(temporary)})
    return target


def load(path: Path) -> Any:
    """The state. Raises UserError naming a broken file."""
    return stateio.load(path, "state")


def head(path: Path) -> dict[str, Any] | None:
    """The plain values of state.json, or None where the checkpoint is not whole (a file is missing or has another size)."""
    try:
        found = json.loads((path / "state.json").read_text(encoding="utf-8"))
        sizes = _sizes(path)
        if any(sizes.get(name) != size for name, size in found["files"].items()):
            return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    found.pop("state")
    return found


def note_ranks(path: Path, head: Mapping[str, Any], here: Ranks) -> None:
    """Warns where a checkpoint goes on with another number of ranks than wrote it: sums are then rounded in another order."""
    before = head.get("ranks", 1)
    if before != here.world and here.is_main:
        warnings.warn(
            f"{path.name} was written by {before} ranks and goes on with {here.world}: sums are rounded in another order, so the run will "
            "not end in the bits of an unbroken one",
            stacklevel=3,
        )


def steps(folder: Path) -> list[int]:
    """The steps that have a whole checkpoint, rising."""
    found = (_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*"))
    numbers = sorted(int(match.group(1)) for match in found if match)
    return [number for number in numbers if head(path_of(folder, number)) is not None]


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    found = steps(folder)
    return path_of(folder, found[-1]) if found else None


def best(folder: Path) -> Path | None:
    """The best checkpoint by the run's metric, as the newest one says, or None."""
    last = newest(folder)
    step = (head(last) or {}).get("best_step") if last else None
    return path_of(folder, step) if step is not None and path_of(folder, step).is_dir() else None


def prune(folder: Path, limit: int | None, best_step: int | None) -> None:
    """Keeps `limit` checkpoints: the newest, and the best even where that makes one more than a limit of 1."""
    if limit is None:
        return
    found = steps(folder)
    kept = set(found[-limit:])
    if best_step in found and best_step not in kept:
        kept = {best_step, *found[-max(1, limit - 1) :]}
    for step in found:
        if step not in kept:
            atomic.remove(path_of(folder, step))


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "state.json")
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}
