"""From a base model to a measurably better one, in minutes on a CPU: SFT, RL and two controls, measured on held-out problems.

  burnish quickstart                 seed 0, into runs/quickstart-seed0
  burnish quickstart --seed 1 2      two seeds, one after the other

Exit code 1 where a promise of the summary was not kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

HELP = "a base model, SFT, RL and two controls, measured, in minutes"
TAKES_FLAGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Seeds; all other fields of the quickstart are flags (--rl_steps 60)."""
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one run for each seed")
    parser.add_argument("--output", help="run folder (with several seeds: its name is continued by -seedN)")


def run(args: argparse.Namespace) -> int:
    """Runs each seed and prints its table."""
    from burnish.recipes.quickstart import QuickstartConfig, quickstart
    from burnish.reports.terminal import summary as show
    from burnish.runs.config import load_config

    fine = True
    for seed in args.seed:
        output = "" if not args.output else args.output if len(args.seed) == 1 else f"{args.output}-seed{seed}"
        config = load_config(QuickstartConfig, None, ["--seed", str(seed), "--output", output, *args.flags])
        folder, summary = quickstart(config, silent=args.json, say=lambda line: print(line, file=sys.stderr))
        if args.json:
            print(json.dumps({"folder": str(folder), **dataclasses.asdict(summary)}))
        else:
            show(folder)
            print(f"Run: {summary.seconds:.0f} s. Report: {folder / 'report.html'}")
        fine = fine and all(check.passed for check in summary.checks)
    return 0 if fine else 1
