"""Say what is wrong with a run, with evidence and remedy, and which invariants held.

burnish doctor runs/mine           in words
burnish doctor runs/mine --json    for machines
"""

from __future__ import annotations

import argparse
import json

HELP = "what is wrong with a run, why, and what to change"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run folder."""
    parser.add_argument("run", help="run folder, finished or not")


def run(args: argparse.Namespace) -> None:
    """Reads and prints."""
    from burnish.recipes.doctor import doctor
    from burnish.rl.doctor.report import show

    found = doctor(args.run)
    if args.json:
        print(json.dumps(found.to_dict()))
        return
    show(found)
