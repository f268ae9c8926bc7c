"""What a larger budget will give: a saturating curve through the held-out pass rates of RL runs, carried on, or why that cannot be done.

burnish forecast runs/mine --fit-until 0.5          fit the first half, see how the second half lies on the curve
burnish forecast runs/a runs/b --at 3e15            two runs by ceiling (A) and efficiency (B), and both at a larger budget
burnish forecast evals.jsonl --at 100000            lines of {"compute", "n_prompts", "n_samples", "pass_rate"}
"""

from __future__ import annotations

import argparse
import json

HELP = "what more compute will give: ceiling and efficiency of RL runs, with intervals"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, the window, and where to."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder with held-out evaluations, or JSONL file")
    parser.add_argument("--fit-until", type=float, default=1.0, metavar="SHARE", help="fit the evaluations up to this share of the compute")
    parser.add_argument("--drop-before", type=float, default=0.0, metavar="C", help="leave out evaluations with less compute than this")
    parser.add_argument("--at", type=float, metavar="C", help="forecast at this compute (default: the last evaluation's; fit whole: twice)")
    parser.add_argument("--r0", default="start", help="pass rate before RL: a number, 'start' (the evaluation at compute 0) or 'fit'")
    parser.add_argument("--axis", default="flops", help="compute axis of run folders: flops, tokens or steps")
    parser.add_argument("--output", default="forecast.svg", metavar="FILE.svg", help="where the plot goes")


def run(args: argparse.Namespace) -> None:
    """Prints a table and writes the plot."""
    from burnish.reports import tables
    from burnish.rl.forecast.runs import Request, forecast_runs
    from burnish.runs import atomic

    atomic.refuse_unwritable(args.output, file=True)
    found = forecast_runs(Request(args.runs, args.fit_until, args.drop_before, args.at, args.r0, args.axis), silent=args.json)
    atomic.write_text(args.output, found.plot())
    if args.json:
        print(json.dumps(found.to_json() | {"plot": args.output}))
        return
    tables.show(found.rows(), title=found.title)
    for line in found.remarks():
        print(line)
    print(f"Plot: {args.output}")
