"""Claim: a sentence of a paper as an experiment of arms and seeds, with the rule that turns their results into a verdict."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Size = str
""" "smoke" (seconds, for CI; its verdict never counts) or "full"."""

Status = Literal["reproduced", "not reproduced", "inconclusive"]
STATUSES: tuple[Status, ...] = ("reproduced", "not reproduced", "inconclusive")

Result = Mapping[str, Any]
"""One finished arm as read from its JSON: "arm", "seed", "settings", "result" (what `run` returned), and where it came from."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*(/[A-Za-z0-9][A-Za-z0-9.+_-]*)*")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One thing that is compared, run once for each seed. settings: JSON values.

    name: letters, digits and . + _ -; parts divided by / become folders of the result files.
    seeds: its own seeds instead of the claim's (a grid that is tried on a seed not used later).
    follows: names of arms whose results must be there first; `Claim.settle` then adds what they decide to the settings.
    """

    name: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    follows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"arm {self.name!r}: a name is made of letters, digits and . + _ - in parts divided by /")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a claim. figures: what the status rests on, by name.

    "not reproduced" stands only with the figures "effect" (the size that is claimed), "interval_low" and "interval_high" (of the measured
    one; they exclude the effect), "baseline" (what the baseline reached, to show that it is competent) and "headroom" (how much was left
    to gain, above 0). Without them the harness makes it "inconclusive".
    """

    status: Status
    reason: str
    figures: Mapping[str, float | str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"a verdict is one of {', '.join(STATUSES)}, not {self.status!r}")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One experiment. All callables are functions at the top of their module: arms run in processes of their own, with one thread each.

    id: `<slug>.<number>`. sentence: the paper's claim. rule: the verdict's rule in words, fixed before the runs.
    arms, seeds: by size. run: `run(arm, seed, folder, size)` returns JSON values; `folder` is scratch that outlives a kill and is dropped
    with the settings. shared: `shared(seed, folder, size)` makes what several arms of a seed start from, once; `run` finds that folder
    by `shared_of(folder)`. common: settings that all arms and the shared step have in common, by size; JSON values that are recorded with
    every result. settle: settings of an arm that follows others, from their results. table: rows for the page.
    minutes: wall time at full size, two processes. version: raise it where a change of the code makes older results stale.
    """

    id: str
    title: str
    paper: str
    sentence: str
    rule: str
    arms: Callable[[Size], tuple[Arm, ...]]
    seeds: Callable[[Size], tuple[int, ...]]
    run: Callable[[Arm, int, Path, Size], dict[str, Any]]
    verdict: Callable[[list[Any], Size], Verdict]
    plot: Callable[[list[Any], Verdict], str]
    shared: Callable[[int, Path, Size], None] | None = None
    common: Callable[[Size], dict[str, Any]] | None = None
    settle: Callable[[Arm, list[Any]], dict[str, Any]] | None = None
    table: Callable[[list[Any]], Sequence[Mapping[str, Any]]] | None = None
    minutes: float = 20.0
    version: int = 1

    @property
    def slug(self) -> str:
        """The system it belongs to."""
        return self.id.rpartition(".")[0]


def shared_of(folder: Path) -> Path:
    """The folder that `Claim.shared` filled for this seed, seen from the scratch folder of an arm."""
    return folder.parent / "shared"
