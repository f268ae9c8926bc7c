"""Measure a model on held-out data.

burnish eval MODEL DATA REWARD                    pass@1 with its 95 % interval
burnish eval MODEL DATA REWARD --samples 8        pass@k and mean@k too
burnish eval MODEL DATA REWARD --against old.json paired difference to an earlier result
burnish eval NAME --help                          another measurement: see `burnish eval --list`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

HELP = "pass@1, pass@k with intervals; paired difference to an earlier result"
TAKES_FLAGS = True


def choose(words: Sequence[str]) -> tuple[str, Any, list[str]] | None:
    """A measurement that the first word names: (the word, the action, the words that are left)."""
    from burnish.recipes.actions import evals

    found = evals() if words and not words[0].startswith("-") and "/" not in words[0] else {}
    return (words[0], found[words[0]], list(words[1:])) if words and words[0] in found else None


class _Listing(argparse.Action):
    """Prints the other measurements, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from burnish.recipes.actions import evals

        print("\n".join(f"burnish eval {name:<12} {one.help}" for name, one in evals().items()) or "there is none")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, data, reward and where results go; all other fields are flags (--sampling.temperature 0)."""
    parser.add_argument("model", help="local folder, hub id or adapter folder")
    parser.add_argument("data", help="JSONL, Parquet or CSV file, dataset folder or hub id, with a prompt column")
    parser.add_argument("reward", help="a reward's name, package.module:name or file.py:name")
    parser.add_argument("--list", action=_Listing, nargs=0, help="print the other measurements there are")
    parser.add_argument("--output", help="write the result with every completion as JSON")
    parser.add_argument("--against", metavar="RESULT.json", help="an earlier result of the same items: prints the paired difference")


def run(args: argparse.Namespace) -> None:
    """Evaluates and prints a table."""
    from burnish.recipes.evaluate import EvalRunConfig, result_rows, run_evaluation
    from burnish.reports import tables
    from burnish.runs import atomic
    from burnish.runs.config import load_config
    from burnish.tasks.evaluation import EvalResult

    earlier = EvalResult.load(args.against) if args.against else None
    named = [f"--model.path={args.model}", f"--data.path={args.data}", f"--rewards={json.dumps([args.reward])}"]
    config = load_config(EvalRunConfig, None, [*named, *args.flags], args.options)
    if args.output:
        atomic.refuse_unwritable(args.output, file=True)
    result = run_evaluation(config, earlier=earlier, silent=args.json)
    if args.output:
        result.save(args.output)
    rows = result_rows(result, earlier)
    if args.json:
        print(json.dumps(result.summary() | {"measures": rows}))
        return
    tables.show(rows, title=f"{args.model} on {len(result.items)} prompts of {args.data}")
    if args.output:
        print(f"Result: {args.output}")
