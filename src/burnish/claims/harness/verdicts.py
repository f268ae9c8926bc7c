"""From results to a verdict on disk: the rules that no claim may break, `verdict.json` and `plot.svg`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Verdict
from burnish.claims.harness.jobs import digest
from burnish.claims.harness.schedule import Plan
from burnish.runs import atomic

NEEDED = ("effect", "interval_low", "interval_high", "baseline", "headroom")
"""Figures without which nothing is called "not reproduced"."""


def by_rule(verdict: Verdict) -> Verdict:
    """The verdict, or "inconclusive" with the reason where "not reproduced" is not earned: an interval that excludes the claimed effect,
    a competent baseline, and headroom."""
    if verdict.status != "not reproduced":
        return verdict
    figures = {name: verdict.figures.get(name) for name in NEEDED}
    missing = [name for name, value in figures.items() if value is None or not math.isfinite(_number(value))]
    if missing:
        return _open(verdict, f"no figure for {', '.join(missing)}")
    low, effect, high = (_number(figures[name]) for name in ("interval_low", "effect", "interval_high"))
    if low <= effect <= high:
        return _open(verdict, f"the interval [{low:.4g}, {high:.4g}] holds the claimed effect {effect:.4g}")
    if _number(figures["headroom"]) <= 0:
        return _open(verdict, "there was no headroom in which an effect could have shown")
    return verdict


def _open(verdict: Verdict, why: str) -> Verdict:
    return dataclasses.replace(verdict, status="inconclusive", reason=f"{verdict.reason} (not called 'not reproduced': {why})")


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def judge(plan: Plan, provenance: Mapping[str, Any]) -> dict[str, Any] | None:
    """Writes the verdict and the plot of a claim and returns the verdict as JSON values; None where results are missing.

    counts: True for a full-size run with at least the claim's own number of seeds; a smoke verdict never counts.
    A verdict that is there already and rests on the same results stays as it is.
    """
    claim, folder = plan.claim, plan.places.of(plan.claim)
    results = plan.results()
    if len(results) < len(plan.pairs()):
        return None
    marks = digest(sorted(f"{one['arm']}-{one['seed']}-{one['mark']}-{json.dumps(one['result'], sort_keys=True)}" for one in results))
    verdict = by_rule(claim.verdict(results, plan.size))
    found = {
        "claim": claim.id,
        "title": claim.title,
        "paper": claim.paper,
        "sentence": claim.sentence,
        "rule": claim.rule,
        "status": verdict.status,
        "reason": verdict.reason,
        "figures": dict(verdict.figures),
        "size": plan.size,
        "seeds": list(plan.seeds),
        "counts": plan.size == "full" and len(plan.seeds) >= len(claim.seeds("full")),
        "runs": len(results),
        "results": marks,
        "wall_seconds": round(sum(one["wall_seconds"] for one in results), 1),
        "cpu_seconds": round(sum(one["cpu_seconds"] for one in results), 1),
        "table": [dict(row) for row in claim.table(results)] if claim.table is not None else [],
    }
    return _write(folder, found, dict(provenance), claim.plot(results, verdict))


def _write(folder: Path, found: dict[str, Any], provenance: dict[str, Any], plot: str) -> dict[str, Any]:
    target = folder / "verdict.json"
    try:
        old = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        old = {}
    if any(old.get(key) != value for key, value in found.items()):
        found |= provenance
        with atomic.explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(target, json.dumps(found, indent=1, allow_nan=False) + "\n")
    else:
        found = old
    if plot and (not (folder / "plot.svg").exists() or (folder / "plot.svg").read_text(encoding="utf-8") != plot):
        atomic.write_text(folder / "plot.svg", plot)
    return found
