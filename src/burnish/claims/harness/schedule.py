"""Which jobs there are, which are done, and the loop that runs the rest, a few at a time."""

from __future__ import annotations

import dataclasses
import fnmatch
import time
from collections.abc import Callable, Sequence
from typing import Any

from burnish.claims.harness.claim import Arm, Claim
from burnish.claims.harness.jobs import Job, Places, lock, result_path
from burnish.claims.harness.pool import Pool, tail
from burnish.claims.harness.worker import BUSY
from burnish.runs.errors import UserError

POLL = 0.2
AGAIN = 2.0
"""Seconds before a job that another process is at is looked at again."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """One claim at one size. seeds: those of every arm without seeds of its own."""

    claim: Claim
    size: str
    seeds: tuple[int, ...]
    places: Places

    @property
    def arms(self) -> tuple[Arm, ...]:
        """All arms. Raises UserError where a name is there twice or an arm follows one that is not there."""
        found = tuple(self.claim.arms(self.size))
        names = [arm.name for arm in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        stray = next((name for arm in found for name in arm.follows if name not in names), None)
        if twice or stray:
            what = f"the arm {twice!r} twice" if twice else f"an arm that follows {stray!r}, which is not there"
            raise UserError(f"claim {self.claim.id} has {what}; mend its arms")
        return found

    def pairs(self) -> list[tuple[Arm, int]]:
        """Every (arm, seed), in the arms' order."""
        return [(arm, seed) for arm in self.arms for seed in self.seeds_of(arm)]

    def seeds_of(self, arm: Arm) -> tuple[int, ...]:
        """The arm's own seeds, else the claim's."""
        return self.seeds if arm.seeds is None else arm.seeds

    def job(self, arm: Arm, seed: int) -> Job | None:
        """The job with its settings settled, or None where arms that it follows are not done."""
        settings = dict(arm.settings)
        if arm.follows:
            earlier = self.followed(arm)
            if earlier is None or self.claim.settle is None:
                return None
            settings |= self.claim.settle(arm, earlier)
        return Job(self.claim, arm, seed, self.size, self.places, settings)

    def followed(self, arm: Arm) -> list[dict[str, Any]] | None:
        """The results of the arms that one follows; None where any is missing."""
        by_name = {one.name: one for one in self.arms}
        out = []
        for name in arm.follows:
            for seed in self.seeds_of(by_name[name]):
                job = self.job(by_name[name], seed)
                found = job.result() if job is not None else None
                if found is None:
                    return None
                out.append(found)
        return out

    def results(self) -> list[dict[str, Any]]:
        """All results that stand, in the arms' order."""
        jobs = [self.job(arm, seed) for arm, seed in self.pairs()]
        found = [job.result() for job in jobs if job is not None]
        return [one for one in found if one is not None]


Entry = tuple[Plan, Arm, int, float]
"""A job that waits, and the time before which it is not looked at."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A job that ended without a result. log: the last lines of what it wrote."""

    claim: str
    arm: str
    seed: int
    log: str


def chosen(plan: Plan, patterns: Sequence[str]) -> list[tuple[Arm, int]]:
    """The pairs whose arm matches one of the patterns (shell-like); all without patterns. Raises UserError where one matches none."""
    pairs = plan.pairs()
    stray = next((one for one in patterns if not any(fnmatch.fnmatchcase(arm.name, one) for arm, _ in pairs)), None)
    if stray is not None:
        known = ", ".join(dict.fromkeys(arm.name for arm, _ in pairs))
        raise UserError(f"claim {plan.claim.id} has no arm {stray!r} at size {plan.size}; it has {known}")
    return [(arm, seed) for arm, seed in pairs if not patterns or any(fnmatch.fnmatchcase(arm.name, one) for one in patterns)]


def is_done(plan: Plan, arm: Arm, seed: int) -> bool:
    """Is there a result that stands?"""
    job = plan.job(arm, seed)
    return job is not None and job.result() is not None


def run_all(
    work: list[tuple[Plan, Arm, int]],
    pool: Pool,
    at_once: int,
    tell: Callable[[int, str], None],
) -> list[Failure]:
    """Runs what has no result yet, `at_once` jobs at a time, in order. tell: called with (jobs done, a note).

    A failing job is reported and the rest still runs; jobs that follow a failed one are reported too. Where another process is at a job,
    its result is waited for.
    """
    total = len(work)
    failures: list[Failure] = []
    waiting = [(plan, arm, seed, 0.0) for plan, arm, seed in work if not is_done(plan, arm, seed)]
    while waiting or pool.running:
        for running, code in pool.finished():
            job = running.job
            if code == BUSY:
                plan = next(plan for plan, _, _ in work if plan.claim is job.claim)
                waiting.insert(0, (plan, job.arm, job.seed, time.monotonic() + AGAIN))
            elif job.result() is None:
                failures.append(Failure(job.claim.id, job.arm.name, job.seed, tail(running.log) or f"it ended with exit code {code}"))
        waiting, stuck = _start(waiting, pool, at_once)
        if stuck:
            failures += [_stuck(plan, arm, seed) for plan, arm, seed, _ in waiting]
            waiting = []
        done = total - len(waiting) - len(pool.running) - len(failures)
        tell(done, ", ".join(one.job.name for one in pool.running) + (f" ({len(failures)} failed)" if failures else ""))
        if pool.running or waiting:
            time.sleep(POLL)
    return failures


def _start(waiting: list[Entry], pool: Pool, at_once: int) -> tuple[list[Entry], bool]:
    """Starts what can be started; returns (what still waits, whether nothing of it ever will start)."""
    still, soon = [], False
    for plan, arm, seed, after in waiting:
        full = len(pool.running) >= at_once
        soon = soon or time.monotonic() < after
        job = None if full or time.monotonic() < after else plan.job(arm, seed)
        if job is None:
            still.append((plan, arm, seed, after))
        elif job.result() is None:
            with lock(job.folder / "lock", wait=False) as free:
                pass
            if free:
                pool.start(job)
            else:
                soon = True
                still.append((plan, arm, seed, time.monotonic() + AGAIN))
    return still, bool(still) and not pool.running and not soon


def _stuck(plan: Plan, arm: Arm, seed: int) -> Failure:
    missing = [
        name
        for name in arm.follows
        for one in plan.seeds_of(next(other for other in plan.arms if other.name == name))
        if not result_path(plan.places, plan.claim, Arm(name), one).exists()
    ]
    return Failure(
        plan.claim.id, arm.name, seed, f"it was not run: it follows {', '.join(missing) or ', '.join(arm.follows)}, not done yet"
    )
