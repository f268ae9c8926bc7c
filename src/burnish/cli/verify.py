"""Run the experiments behind a method's claims and print the verdicts.

burnish verify rl-catalogue             every claim of the system at full size; goes on where an earlier call stopped
burnish verify scalerl.1 --smoke        one claim, in seconds; a smoke verdict never counts
burnish verify mine.py --output out     the claims that a file of yours defines

Each arm runs in a process of its own with one thread, and leaves one JSON file. An arm that is done with the same settings is not run
again; two calls at once share the work.
"""

from __future__ import annotations

import argparse
import json

HELP = "run a method's claims against their baselines; verdicts with their evidence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which claims, how large, how many seeds, where to."""
    parser.add_argument("slug", help="a system (rl-catalogue), one of its claims (scalerl.1) or a file that defines `claims`")
    parser.add_argument("--smoke", action="store_true", help="the smallest size: does it run at all?")
    parser.add_argument("--seeds", type=int, metavar="N", help="so many seeds instead of the claim's own number (fewer: does not count)")
    parser.add_argument("--output", metavar="DIR", help="where results go (default: docs/claims in a checkout, else a folder under runs/)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at once (default 2)")
    parser.add_argument("--arms", default="", metavar="A,B", help="only these arms; patterns like 'grid/*' are fine")


def run(args: argparse.Namespace) -> int:
    """Runs, judges, prints. Exit code 1 where an arm failed."""
    from burnish.claims.harness.overview import show_outcomes
    from burnish.claims.harness.verify import verify

    outcomes = verify(
        args.slug,
        size="smoke" if args.smoke else "full",
        seeds=args.seeds,
        output=args.output,
        jobs=args.jobs,
        arms=[one.strip() for one in args.arms.split(",") if one.strip()],
        command=args.command_line,
        silent=args.json,
        say=(lambda line: None) if args.json else print,
    )
    if args.json:
        print(json.dumps([one.to_dict() for one in outcomes]))
    else:
        show_outcomes(outcomes)
    return int(any(one.failures for one in outcomes))
