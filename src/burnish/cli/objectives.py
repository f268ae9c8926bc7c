"""What the policy maximises: presets of objectives, the formula each stands for, and what two differ in.

burnish objectives list             every preset with its knobs
burnish objectives knobs            every value of every knob, with its fields
burnish objectives show grpo        the formula in use, with its numbers (--latex for LaTeX)
burnish objectives diff grpo dapo   what differs, field by field
"""

from __future__ import annotations

import argparse
import json

HELP = "presets of objectives: list, show the formula in use, diff two"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which presets."""
    parser.add_argument("action", choices=["list", "knobs", "show", "diff"], help="what to do")
    parser.add_argument("names", nargs="*", default=[], metavar="PRESET", help="one preset for show, two for diff")
    parser.add_argument("--latex", action="store_true", help="show: print the formulas in LaTeX")


def run(args: argparse.Namespace) -> None:
    """Prints rows, a formula or differences."""
    from burnish.recipes import papers
    from burnish.reports import tables
    from burnish.rl.objectives import listing, presets
    from burnish.rl.objectives.objective import diff
    from burnish.runs.config import plain
    from burnish.runs.errors import UserError

    wanted = {"show": 1, "diff": 2}.get(args.action, 0)
    if len(args.names) != wanted:
        what = {0: "takes no name", 1: "wants one preset", 2: "wants two presets"}[wanted]
        raise UserError(f"burnish objectives {args.action} {what}; `burnish objectives list` names them all")
    chosen = [presets.preset(name) for name in args.names]
    if wanted == 0:
        rows = listing.preset_rows() if args.action == "list" else listing.knob_rows()
        print(json.dumps(rows)) if args.json else tables.show(rows)
    elif wanted == 1:
        texts = {"text": chosen[0].describe(), "latex": chosen[0].describe(latex=True)}
        document = {"name": chosen[0].name, **texts, "filters": presets.filters(chosen[0].name), "knobs": plain(chosen[0])}
        texts["text"] += papers.brings(chosen[0].name)
        print(json.dumps(document) if args.json else texts["latex" if args.latex else "text"])
    else:
        lines = diff(*chosen)
        print(json.dumps(lines) if args.json else "\n".join(lines) or "no difference")
