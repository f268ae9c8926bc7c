"""What was claimed, and what came of it here: slug, paper, claim, status, verdict.

burnish claims                  every claim
burnish claims rl-catalogue     those of one system, with what the verdict rests on
"""

from __future__ import annotations

import argparse
import json

HELP = "the table of claims and verdicts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which system, and where the results are."""
    parser.add_argument("slug", nargs="?", help="a system (rl-catalogue) or one of its claims (scalerl.1); default: all")
    parser.add_argument("--output", metavar="DIR", help="read the results from here (default: docs/claims in a checkout)")


def run(args: argparse.Namespace) -> None:
    """Prints the table."""
    from burnish.claims.harness.overview import overview, show_overview

    found = overview(args.slug, args.output)
    if args.json:
        print(json.dumps(found))
    else:
        show_overview(found, detailed=args.slug is not None)
