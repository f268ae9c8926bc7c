"""The spool: what the generator has drawn and finished, on disk, so that a kill of either process costs only what was half-done.

    journal.jsonl     one line for each thing that has happened, and when; a line that stands there whole has happened
    parts-000200/     the state of all parts (curriculum, rewards, filters ...) after the transition of that serial number: the newest only
    draw-000051-00/   the items of a round of batch 51 that is not finished
    open-000051.jsonl the finished groups of that round, a line each
    batch-000051/     a finished batch, scored and filtered, with the parts' state of that moment; the learner removes it

A transition (a round drawn, a batch finished) first writes its data and the parts, then its journal line. What no journal line vouches for
is thrown away at the next start. Files are written whole or appended by whole lines, but not forced to the disk: this guards against killed
processes, not against power cuts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.records import Group, Item, Limits, Rollout, Sampling
from burnish.rl.batch import Batch, group_from_dict, group_to_dict
from burnish.runs import atomic, stateio
from burnish.runs.errors import UserError
from burnish.runs.folder import append_line

JOURNAL = "journal.jsonl"


@dataclasses.dataclass
class Journal:
    """What the lines say. first: the first batch. serial: the newest transition. drawn: batch -> rounds drawn. done: finished batches.

    half_done: groups that kills cost, over all starts. starts: of a generator. dropped: batches lost when the spool was begun anew.
    """

    first: int = 1
    serial: int = 0
    drawn: dict[int, int] = dataclasses.field(default_factory=dict)
    done: set[int] = dataclasses.field(default_factory=set)
    half_done: int = 0
    starts: int = 0
    dropped: int = 0

    def add(self, line: Mapping[str, Any]) -> None:
        """One more line."""
        self.serial = int(line.get("serial", self.serial))
        self.first = int(line.get("first", self.first))
        self.dropped += int(line.get("dropped", 0))
        if "start" in line:
            self.starts, self.half_done = self.starts + 1, self.half_done + int(line["half_done"])
        if "done" in line:
            self.done.add(int(line["done"]))
        if "drawn" in line:
            self.drawn[int(line["drawn"])] = int(line["round"]) + 1

    @property
    def next(self) -> int:
        """The first batch that was never drawn."""
        return max([self.first - 1, *self.drawn, *self.done]) + 1


@dataclasses.dataclass
class Opened:
    """A batch that was drawn but not finished. groups: of its earlier rounds. have: place -> rollouts of the finished groups."""

    step: int
    version: int
    rounds: int
    items: list[Item]
    sampling: Sampling
    groups: list[Group]
    have: dict[int, list[Rollout]]


def read_journal(folder: Path, mend: bool = False) -> Journal:
    """The journal of a spool. mend: cuts a torn last line off."""
    found = Journal()
    for line in whole_lines(folder / JOURNAL, mend):
        found.add(line)
    return found


def begin(folder: Path, first: int, state: Mapping[str, Any], dropped: int = 0) -> None:
    """A new spool whose first batch is `first`. state: of the parts before it is drawn. What the folder held is removed."""
    with atomic.explained(folder):
        if folder.exists():
            atomic.remove(folder)
        folder.mkdir(parents=True)
    with _whole_folder(folder / _parts(0)) as place:
        stateio.save(place, "parts", dict(state))
    append_line(folder / JOURNAL, json.dumps({"first": first, "serial": 0, "dropped": dropped, "at": time.time()}) + "\n")


class Writer:
    """The generator's side. Opening it reads what an earlier generator left; `state` is what its parts go on from."""

    def __init__(self, folder: Path):
        self.folder = folder
        atomic.sweep(folder)
        self.journal = read_journal(folder, mend=True)
        self.state: dict[str, Any] = stateio.load(folder / _parts(self.journal.serial), "parts")
        self.opened = [self._open(step) for step in sorted(set(self.journal.drawn) - self.journal.done)]
        self._clear()
        lost = sum(len(one.items) - len(one.have) for one in self.opened)
        self._note({"start": self.journal.starts + 1, "half_done": lost, "kept": sum(len(one.have) for one in self.opened)})

    def draw(
        self, step: int, number: int, version: int, items: Sequence[Item], sampling: Sampling, added: Sequence[Group], state: Mapping
    ) -> None:
        """A round was drawn. added: the groups that the round before brought. state: of the parts after the drawing."""
        drawn = {
            "version": version,
            "items": [group_to_dict(Group(item, [], [])) for item in items],
            "sampling": sampling.to_dict(),
            "added": [group_to_dict(group) for group in added],
        }
        with _whole_folder(self.folder / _draw(step, number)) as place:
            stateio.save(place, "draw", drawn)
        self._commit({"drawn": step, "round": number}, state)

    def group(self, step: int, number: int, place: int, rollouts: Sequence[Rollout]) -> None:
        """A group of the round is finished."""
        tensors, value = stateio.flatten([rollout.to_dict() for rollout in rollouts])
        if tensors:
            raise UserError(f"a rollout of step {step} holds arrays in its outcome; an outcome must be plain JSON values")
        line = {"round": number, "place": place, "rollouts": value}
        append_line(self.folder / _open_name(step), stateio.dumps(line) + "\n")

    def finish(self, batch: Batch, state: Mapping[str, Any]) -> None:
        """A batch is finished. state: of the parts now."""
        with _whole_folder(self.folder / batch_name(batch.step)) as place:
            stateio.save(place, "batch", batch.to_dict())
            stateio.save(place, "parts", dict(state))
        self._commit({"done": batch.step}, state)
        self._forget(batch.step)

    def _commit(self, line: dict[str, Any], state: Mapping[str, Any]) -> None:
        serial = self.journal.serial + 1
        with _whole_folder(self.folder / _parts(serial)) as place:
            stateio.save(place, "parts", dict(state))
        self._note({**line, "serial": serial})
        shutil.rmtree(self.folder / _parts(serial - 1), ignore_errors=True)

    def _note(self, line: dict[str, Any]) -> None:
        append_line(self.folder / JOURNAL, json.dumps({**line, "at": time.time()}) + "\n")
        self.journal.add(line)

    def _open(self, step: int) -> Opened:
        rounds = self.journal.drawn[step] - 1
        found = [stateio.load(self.folder / _draw(step, number), "draw") for number in range(rounds + 1)]
        groups = [group_from_dict(group) for one in found for group in one["added"]]
        have = {}
        path = self.folder / _open_name(step)
        for line in whole_lines(path, mend=True) if path.exists() else ():
            if line["round"] == rounds:
                have[int(line["place"])] = [Rollout.from_dict(one) for one in stateio.unflatten({}, line["rollouts"])]
        items = [_item(one) for one in found[-1]["items"]]
        return Opened(step, int(found[0]["version"]), rounds, items, Sampling(**found[-1]["sampling"]), groups, have)

    def _clear(self) -> None:
        """Removes what no journal line vouches for, and what was left lying about."""
        rounds = {one.step: one.rounds for one in self.opened}
        for entry in sorted(self.folder.iterdir()):
            name = re.fullmatch(r"(parts|batch|draw|open)-(\d+)(?:-(\d+))?(?:\.jsonl)?", entry.name)
            if name is None:
                continue
            kind, number, place = name[1], int(name[2]), int(name[3] or 0)
            if kind == "parts":
                good = number == self.journal.serial
            elif kind == "batch":
                good = number in self.journal.done
            else:
                good = number in rounds and place <= rounds[number]
            if not good:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _forget(self, step: int) -> None:
        (self.folder / _open_name(step)).unlink(missing_ok=True)
        for number in range(self.journal.drawn[step]):
            shutil.rmtree(self.folder / _draw(step, number), ignore_errors=True)


class Reader:
    """The learner's side: follows the journal, reads finished batches, removes those that it needs no more."""

    def __init__(self, folder: Path):
        self.folder, self.journal, self._read = folder, Journal(), 0

    def follow(self) -> Journal:
        """The journal with the lines that have come since."""
        path = self.folder / JOURNAL
        size = path.stat().st_size
        if size > self._read:
            with open(path, "rb") as file:
                file.seek(self._read)
                data = file.read(size - self._read)
            whole = data[: data.rfind(b"\n") + 1]
            self._read += len(whole)
            for line in whole.decode("utf-8").splitlines():
                self.journal.add(json.loads(line))
        return self.journal

    def ready(self, step: int) -> bool:
        """Whether the batch is finished and there."""
        return step in self.follow().done and (self.folder / batch_name(step)).is_dir()

    def serves(self, step: int) -> bool:
        """Whether this spool has the batch, is at it, or draws it next."""
        found = self.follow()
        return step == found.next or (step in found.drawn and step not in found.done) or self.ready(step)

    def batch(self, step: int) -> tuple[Batch, dict[str, Any]]:
        """A finished batch, and the parts' state when it was."""
        place = self.folder / batch_name(step)
        return Batch.from_dict(stateio.load(place, "batch")), stateio.load(place, "parts")

    def drop_until(self, step: int) -> None:
        """Removes finished batches up to this one."""
        for place in self.folder.glob("batch-*"):
            if int(place.name.partition("-")[2]) <= step:
                atomic.remove(place)

    def waiting(self, step: int) -> int:
        """Finished batches after this one."""
        return sum(number > step for number in self.journal.done)


def whole_lines(path: Path, mend: bool = False) -> list[dict[str, Any]]:
    """The lines that end; mend: the rest of a torn one is cut off. Raises UserError where one in the middle is broken."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; remove the folder {path.parent} and resume the run") from None
    end = data.rfind(b"\n") + 1
    if mend and end < len(data):
        with atomic.explained(path), open(path, "r+b") as file:
            file.truncate(end)
    out = []
    for number, line in enumerate(data[:end].decode("utf-8").split("\n")[:-1], 1):
        try:
            out.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}, line {number} is not JSON; remove the folder {path.parent} and resume the run") from None
    return out


def batch_name(step: int) -> str:
    """The folder of a finished batch."""
    return f"batch-{step:06d}"


def _parts(serial: int) -> str:
    return f"parts-{serial:06d}"


def _draw(step: int, number: int) -> str:
    return f"draw-{step:06d}-{number:02d}"


def _open_name(step: int) -> str:
    return f"open-{step:06d}.jsonl"


def _item(data: dict[str, Any]) -> Item:
    found = data["item"]
    return Item(**{**found, "limits": Limits(**found["limits"])})


@contextlib.contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A folder that is there whole or not at all; what stood there is replaced."""
    temporary = path.parent / f"{atomic.TEMPORARY}{path.name}"
    with atomic.explained(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
