"""h1's chains (arXiv 2510.07312): short problems composed into long ones, `burnish data long-horizon-chains`, and what it writes.

`compose(problems, h, n, executor=...)` makes chains, `read_problems(source, executor)` problems of a file, `split` train and test.
"""

from __future__ import annotations

import argparse

from burnish.data.long_horizon_chains.adapters import DEFAULT, KINDS, Adapter, adapter
from burnish.data.long_horizon_chains.composing import Composed, Composition, compose, split
from burnish.data.long_horizon_chains.files import Settings, make, read_problems
from burnish.data.long_horizon_chains.problems import Problem
from burnish.runs.actions import Action

__all__ = [
    "Adapter",
    "Composed",
    "Composition",
    "Problem",
    "Settings",
    "adapter",
    "command",
    "compose",
    "make",
    "read_problems",
    "split",
]

DESCRIPTION = """Compose short problems into chains in which each answer feeds the next problem.

burnish data long-horizon-chains gsm8k.jsonl --h 1..8 --output chains     chains/train.jsonl, chains/test.jsonl, chains/report.json
burnish data long-horizon-chains mine.jsonl --adapters identity "times 3" "hours to minutes"
burnish data long-horizon-chains mine.jsonl --link add                    answers are numbers only, without a solution to execute
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    own = Settings()
    parser.add_argument("data", nargs="+", help="files with question and solution (GSM8K, SVAMP, or an expression, equation or number)")
    parser.add_argument("--output", required=True, help="folder for train.jsonl, test.jsonl and report.json")
    parser.add_argument("--h", default=own.h, help="horizons, as 1..8 or 1,2,5 (default %(default)s)")
    parser.add_argument("--n", type=int, default=own.n, help="training chains of each horizon (default %(default)s)")
    parser.add_argument("--test-n", type=int, default=own.test_n, help="test chains of each horizon; 0: none (default %(default)s)")
    parser.add_argument(
        "--test-share", type=float, default=own.test_share, help="share of the problems that only the test has (default %(default)s)"
    )
    parser.add_argument("--adapters", nargs="+", default=list(DEFAULT), help=f"what stands between two problems: {', '.join(KINDS)}")
    parser.add_argument("--link", choices=("substitute", "add"), default=own.link, help="how an answer enters the next problem")
    parser.add_argument("--bound", type=int, default=own.bound, help="largest number there may be (default %(default)s)")
    parser.add_argument("--executor", default=own.executor, help="what gives an expression its value: module:function or file.py:function")
    parser.add_argument("--bad-rows", choices=("refuse", "skip"), default=own.bad_rows, help="what happens to rows that cannot be read")
    parser.add_argument("--seed", type=int, default=own.seed)


def _run(args: argparse.Namespace) -> int | None:
    import json

    names = ("h", "n", "test_n", "test_share", "link", "bound", "executor", "bad_rows", "seed")
    settings = Settings(**{name: getattr(args, name) for name in names}, adapters=tuple(args.adapters))
    report = make(args.data, args.output, settings)
    if args.json:
        print(json.dumps(report))
        return None
    print(f"problems: {report['problems']['kept']} of {report['problems']['read']} rows, {report['problems']['linkable']} can be linked")
    for name, counts in report["chains"].items():
        print(f"{name}: {sum(counts['made'].values())} chains, horizons {', '.join(counts['made'])}")
        print(f"  rejected: {', '.join(f'{reason} {number}' for reason, number in counts['rejected'].items()) or 'none'}")
    print(f"written: {args.output}")
    return None


command = Action("compose short problems into chains whose answers feed one another", _arguments, _run, DESCRIPTION)
