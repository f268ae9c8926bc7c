"""Write (again) the self-contained report.html of a run, and print its headline numbers."""

from __future__ import annotations

import argparse
import json

HELP = "report.html of a run: curves, samples, timings, configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run folder."""
    parser.add_argument("run", help="run folder")
    parser.add_argument("--output", help="where the page goes (default: report.html in the run folder)")


def run(args: argparse.Namespace) -> None:
    """Writes the page."""
    from burnish.reports.report import write_report
    from burnish.reports.terminal import summary
    from burnish.runs import atomic

    if args.output:
        atomic.refuse_unwritable(args.output, file=True)
    path = write_report(args.run, args.output)
    if args.json:
        print(json.dumps({"report": str(path)}))
        return
    summary(args.run)
    print(f"Report: {path}")
