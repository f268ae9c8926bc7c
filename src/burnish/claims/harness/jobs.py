"""Job: one arm with one seed. Where its files are, and when a result on disk still stands for it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim
from burnish.runs import atomic

try:
    import fcntl
except ImportError:  # no such locks there: two verifies at once would do some work twice
    fcntl = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Places:
    """results: `<slug>/<claim>/<arm>-seed<k>.json` go here. scratch: what arms need while they run, and their logs."""

    results: Path
    scratch: Path

    def of(self, claim: Claim) -> Path:
        """The folder of a claim's results."""
        return self.results / claim.slug / claim.id


@dataclasses.dataclass(frozen=True)
class Job:
    """settings: the arm's, with what `Claim.settle` added."""

    claim: Claim
    arm: Arm
    seed: int
    size: str
    places: Places
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people: `grpo, seed 1`."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def mark(self) -> str:
        """12 hex digits of all that the result depends on. A result with another mark is stale."""
        what = [
            self.claim.id,
            self.claim.version,
            self.arm.name,
            self.seed,
            self.size,
            dict(self.settings),
            common_of(self.claim, self.size),
        ]
        return digest(what)

    @property
    def path(self) -> Path:
        """The result's file."""
        return result_path(self.places, self.claim, self.arm, self.seed)

    @property
    def folder(self) -> Path:
        """Scratch of its own; another one where the settings change. Beside it `shared`, the seed's."""
        return seed_folder(self.places, self.claim, self.seed, self.size) / f"{self.arm.name.replace('/', '-')}-{self.mark}"

    def result(self) -> dict[str, Any] | None:
        """The finished result, or None where there is none that stands."""
        found = read(self.path)
        return found if found is not None and found.get("mark") == self.mark else None


def result_path(places: Places, claim: Claim, arm: Arm, seed: int) -> Path:
    """`<results>/<slug>/<claim>/<arm>-seed<k>.json`."""
    return places.of(claim) / f"{arm.name}-seed{seed}.json"


def seed_folder(places: Places, claim: Claim, seed: int, size: str) -> Path:
    """Scratch of all arms of a seed; other common settings, or a new version of the claim, have another one."""
    return places.scratch / claim.id / f"{size}-{digest([claim.version, common_of(claim, size)])}-seed{seed}"


def common_of(claim: Claim, size: str) -> dict[str, Any]:
    """The settings that all arms have in common."""
    return claim.common(size) if claim.common is not None else {}


def digest(what: Any) -> str:
    """12 hex digits of JSON values."""
    return hashlib.blake2b(json.dumps(what, sort_keys=True, allow_nan=False).encode(), digest_size=6).hexdigest()


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where the file is missing or no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@contextlib.contextmanager
def lock(path: Path, wait: bool) -> Iterator[bool]:
    """Holds the lock file `path` inside the block; yields False where another process holds it and `wait` is False."""
    with atomic.explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield True
