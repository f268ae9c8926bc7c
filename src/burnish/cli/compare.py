"""Is A better than B, or is it the seed? Trains both on the same seeds and compares them at equal FLOPs, with an interval.

burnish compare a.yaml b.yaml --seeds 5
burnish compare a.yaml 'rl.objective=dapo rl.learning_rate=1e-4' --seeds 5       B is A with changes
burnish compare a.yaml b.yaml --seeds 5 --rl.steps 50                            flags count for both
burnish compare runs/a runs/b                                                    runs that are there already
"""

from __future__ import annotations

import argparse
import json

HELP = "is A better than B, or is it the seed? same seeds, data and FLOPs, with an interval"
TAKES_FLAGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two arms and how they are compared; every other flag is a field of both configurations."""
    parser.add_argument("a", help="YAML file, or a folder of finished runs")
    parser.add_argument("b", help="YAML file, a folder of finished runs, or changes to A: 'key=value key=value'")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each arm (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="of both arms (default 0)")
    parser.add_argument("--first-seed-b", type=int, help="of arm B, where its seeds should differ (then nothing is paired)")
    parser.add_argument("--output", default="runs/compare", help="folder of runs and report (default runs/compare)")
    parser.add_argument("--metric", help="what is compared (default eval/success, else eval/reward; eval_loss for sft)")
    parser.add_argument("--level", type=float, default=0.95, help="of the interval (default 0.95)")
    parser.add_argument("--effect", type=float, help="the difference worth telling apart, for the number of seeds needed")
    parser.add_argument("--workers", type=int, default=2, help="one-thread processes at once (default 2)")


def run(args: argparse.Namespace) -> None:
    """Trains what is missing and prints the comparison."""
    from burnish.recipes.compare import Request, compare
    from burnish.reports import tables
    from burnish.reports.compare.page import result_rows

    request = Request(
        args.a, args.b, args.seeds, args.first_seed, args.first_seed_b, args.output, args.metric, args.level, args.effect,
        args.workers, tuple(args.flags),
    )  # fmt: skip
    found, page = compare(request, silent=args.json)
    if args.json:
        print(json.dumps(found.to_dict() | {"page": str(page)}, indent=1))
        return
    tables.show(result_rows(found), f"{found.metric} at {found.budget:.4g} {found.axis}")
    for change in found.changes:
        print(f"  {change}")
    print(found.sentence())
    print(f"Report: {page}")
