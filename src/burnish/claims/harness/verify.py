"""`burnish verify`: the experiments of one system, from the runs to the verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import burnish
from burnish.claims.harness import find
from burnish.claims.harness.claim import Claim
from burnish.claims.harness.jobs import Places
from burnish.claims.harness.pool import Pool
from burnish.claims.harness.schedule import Failure, Plan, chosen, run_all
from burnish.claims.harness.verdicts import judge
from burnish.runs import atomic, environment, progress
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Outcome:
    """verdict: as in verdict.json, None where results are missing. done, runs: results there and wanted."""

    claim: Claim
    verdict: dict[str, Any] | None
    done: int
    runs: int
    folder: Path
    failures: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        failures = [dataclasses.asdict(one) for one in self.failures]
        return {
            "claim": self.claim.id,
            "verdict": self.verdict,
            "done": self.done,
            "runs": self.runs,
            "folder": str(self.folder),
            "failures": failures,
        }


def checkout() -> Path | None:
    """The root of the source tree burnish runs from, or None where it is installed without one."""
    root = Path(burnish.__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "docs").is_dir() else None


def places(size: str, output: str | None, counts: bool = True) -> Places:
    """Where results and scratch go. Unset: docs/claims of the checkout for full-size runs that count, else a folder under runs/."""
    root = checkout()
    if output:
        return Places(Path(output), Path(output) / "scratch")
    if size == "full" and counts and root is not None:
        return Places(root / "docs" / "claims", root / "runs" / "claims" / "full")
    results = Path("runs") / "claims" / (size if counts else f"{size}-fewer-seeds")
    return Places(results, results / "scratch")


def verify(
    spec: str,
    size: str = "full",
    seeds: int | None = None,
    output: str | None = None,
    jobs: int = 2,
    arms: Sequence[str] = (),
    command: str = "",
    silent: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Runs what has no result yet and judges every claim whose results are all there.

    spec: "slug", "slug.2", or a Python file with `claims`. seeds: how many instead of the claim's own number (fewer: does not count).
    arms: only arms that match one of these names or patterns. Two calls at once share the work. Raises UserError for bad input.
    """
    if jobs < 1 or (seeds is not None and seeds < 1):
        raise UserError(f"{'--jobs' if jobs < 1 else '--seeds'} must be at least 1")
    source, claims = find.select(spec)
    plans = [plan_of(claim, size, seeds, output) for claim in claims]
    work = [(plan, arm, seed) for plan in plans for arm, seed in (chosen(plan, arms) if len(plans) == 1 or not arms else _some(plan, arms))]
    if arms and not work:
        raise UserError(f"no claim of {spec} has an arm {', '.join(arms)} at size {size}")
    for plan in plans:
        atomic.refuse_unwritable(plan.places.results)
    say(f"{len(work)} runs of {', '.join(claim.id for claim in claims)} at {size} size; results: {plans[0].places.results}")
    provenance = {"command": command, "environment": described()}
    with progress.bar(len(work), spec, silent) as bar, Pool(source, provenance) as pool:
        failures = run_all(work, pool, jobs, bar.update)
    return [_outcome(plan, failures, provenance) for plan in plans]


def plan_of(claim: Claim, size: str, seeds: int | None, output: str | None) -> Plan:
    """The claim with its seeds: the first ones, and numbers after the last where more are wanted."""
    own = tuple(claim.seeds(size))
    more = () if seeds is None else tuple(range(max(own, default=-1) + 1, max(own, default=-1) + 1 + max(0, seeds - len(own))))
    wanted = own if seeds is None else (own + more)[:seeds]
    return Plan(claim, size, wanted, places(size, output, counts=len(wanted) >= len(own)))


def _some(plan: Plan, arms: Sequence[str]) -> list[Any]:
    """With several claims, a pattern need not match in each of them."""
    try:
        return [pair for one in arms for pair in chosen(plan, [one])]
    except UserError:
        return []


def _outcome(plan: Plan, failures: Sequence[Failure], provenance: dict[str, Any]) -> Outcome:
    mine = tuple(one for one in failures if one.claim == plan.claim.id)
    verdict = judge(plan, provenance)
    return Outcome(plan.claim, verdict, len(plan.results()), len(plan.pairs()), plan.places.of(plan.claim), mine)


def described() -> dict[str, Any]:
    """What every result records of the machine and the code; no path of this machine."""
    found = environment.describe()
    return {key: value for key, value in found.items() if key != "executable"} | {"threads": 1}
