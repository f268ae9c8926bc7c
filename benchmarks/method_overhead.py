"""What a method's parts add to a training step: CPU seconds with and without them, interleaved step by step and paired.

    python -m benchmarks.method_overhead [--steps 30] [--only NAME ...] [--json docs/benchmarks/method_overhead.json]

Each side is a process of its own with one thread, and the two take turns in the order AB BA AB ...; the time inside a method's scorer is
taken out. The overhead is the median over pairs of (with - without) / without, with a 95 % bootstrap interval. A/A is the same run twice.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from benchmarks.overhead.variants import VARIANTS
from benchmarks.provenance import provenance
from benchmarks.trl_race import WARM_UP, Side, bootstrap_median


class Half(Side):
    """One of the two runs."""

    module = "benchmarks.overhead.side"


def pairs(name: str, steps: int, case: str) -> dict[str, Any]:
    """The paired steps of one variant, and what they say."""
    halves = {which: Half(name, which, str(steps + WARM_UP + 1), case) for which in ("without", "with")}
    rows: dict[str, list[float]] = {which: [] for which in halves}
    try:
        for number in range(steps + WARM_UP):
            for which in sorted(halves, reverse=bool(number % 2)):
                row = halves[which].step()
                rows[which].append(row["cpu"] - row.get("scorer", 0.0))
    finally:
        for half in halves.values():
            half.close()
    without, with_it = (np.array(rows[which][WARM_UP:]) for which in ("without", "with"))
    low, high = bootstrap_median(with_it / without - 1)
    share = float(np.median(with_it / without - 1))
    return {
        "name": name, "allowed": VARIANTS[name][2], "overhead": share, "low": low, "high": high, "steps": steps,
        "without_s": float(np.median(without)), "with_s": float(np.median(with_it)),
    }  # fmt: skip


def main() -> None:
    """Prints a line for each variant and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--case", default="fixed")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    about, found = provenance(), []
    for name in args.only:
        found.append(pairs(name, args.steps, args.case))
        row = found[-1]
        bound = "" if row["allowed"] is None else f" (allowed {row['allowed']:.0%})"
        print(f"{name}: {row['overhead']:+.1%} [{row['low']:+.1%}, {row['high']:+.1%}] of {row['without_s']:.2f} s{bound}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"overhead": found, "provenance": about}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
