"""What is known of every claim, read from the result files; and how it is shown in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.claims.harness import find
from burnish.claims.harness.claim import Claim
from burnish.claims.harness.jobs import read
from burnish.claims.harness.verify import Outcome, checkout
from burnish.reports import tables, words

if TYPE_CHECKING:
    from burnish.claims.harness.schedule import Failure


def results_folder(output: str | None = None) -> Path | None:
    """Where results are read: `output`, or docs/claims of the checkout; None where there is neither."""
    root = checkout()
    return Path(output) if output else root / "docs" / "claims" if root is not None else None


def overview(spec: str | None = None, output: str | None = None) -> list[dict[str, Any]]:
    """One entry for each claim: what it says and its newest verdict. Raises UserError for an unknown slug."""
    folder = results_folder(output)
    claims = find.select(spec)[1] if spec else [claim for slug in find.slugs() for claim in find.claims_of(slug)]
    return [entry(claim, folder) for claim in claims]


def entry(claim: Claim, folder: Path | None) -> dict[str, Any]:
    """status: "not run", "smoke" or "fewer seeds" (a verdict that does not count), or "done". verdict: as in verdict.json, or None."""
    verdict = read(folder / claim.slug / claim.id / "verdict.json") if folder is not None else None
    says = {"claim": claim.id, "slug": claim.slug, "title": claim.title, "paper": claim.paper, "sentence": claim.sentence}
    return {**says, "rule": claim.rule, "minutes": claim.minutes, "status": status_of(verdict), "verdict": verdict}


def status_of(verdict: dict[str, Any] | None) -> str:
    """Whether there is a verdict and whether it counts."""
    if verdict is None:
        return "not run"
    if verdict.get("counts"):
        return "done"
    return "smoke" if verdict.get("size") == "smoke" else "fewer seeds"


def verdict_of(found: dict[str, Any]) -> str | None:
    """The verdict's word; None where nothing counts."""
    return found["verdict"]["status"] if found["status"] == "done" else None


def rows(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table's rows."""
    return [
        {
            "claim": one["claim"],
            "paper": one["paper"],
            "what is claimed": one["title"],
            "status": one["status"],
            "verdict": verdict_of(one),
        }
        for one in found
    ]


def show_overview(found: Sequence[dict[str, Any]], detailed: bool) -> None:
    """Prints the table; with `detailed` also sentence, rule and reason of each claim."""
    tables.show(rows(found), "Claims")
    for one in found if detailed else ():
        print(f"\n{one['claim']}: {one['sentence']}\nRule: {one['rule']}")
        if one["verdict"] is None:
            print(f"Not run yet: burnish verify {one['claim']} (about {one['minutes']:.0f} minutes on two cores)")
        else:
            print(_said(one["status"], one["verdict"]))


def _said(status: str, verdict: dict[str, Any]) -> str:
    label = "" if status == "done" else f"{status}, does not count: "
    spent = f"{verdict['runs']} runs, {words.seconds(verdict['cpu_seconds'])} of CPU"
    return f"Verdict: {label}{verdict['status']}. {verdict['reason']} ({spent})"


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Prints what a call of verify found: verdicts, tables, failures."""
    for one in outcomes:
        print(f"\n{one.claim.id}: {one.claim.title}")
        for failure in one.failures:
            _show_failure(failure)
        if one.verdict is None:
            print(f"No verdict yet: {one.done} of {one.runs} runs are done. The same command goes on with the rest.")
            continue
        if one.verdict["table"]:
            tables.show(one.verdict["table"])
        print(_said(status_of(one.verdict), one.verdict))
        print(f"Results: {one.folder}")


def _show_failure(failure: Failure) -> None:
    print(f"FAILED: {failure.arm}, seed {failure.seed}. The end of its log:")
    print("\n".join(f"    {line}" for line in failure.log.splitlines()))
