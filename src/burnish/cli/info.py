"""Versions, threads and devices: what to put in a bug report."""

from __future__ import annotations

import argparse
import json

HELP = "versions, threads, devices: what to put in a bug report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> None:
    """Prints the environment."""
    from burnish.runs.environment import describe

    facts = describe()
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in facts.items()))
