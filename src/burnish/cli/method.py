"""What a method does besides taking part in training: its own actions.

burnish method                       every method with actions
burnish method hicra                 the actions of one
burnish method hicra extract --help  how one is used
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

HELP = "a method's own actions: extract, inspect, trace ..."


def choose(words: Sequence[str]) -> tuple[str, Any, list[str]] | None:
    """The action that the words name, as a verb of its own: (its words, the action, the words that are left)."""
    from burnish.recipes.actions import action

    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        return None
    return f"{words[0]} {words[1]}", action(words[0], words[1]), list(words[2:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which method."""
    parser.add_argument("slug", nargs="?", help="a method's name; default: all of them")
    parser.add_argument("action", nargs="?", help="what to do, and then its own arguments")


def run(args: argparse.Namespace) -> None:
    """Prints the actions there are."""
    from burnish.recipes.actions import actions_of, methods
    from burnish.reports import tables
    from burnish.runs.errors import UserError, did_you_mean

    found = {args.slug: actions_of(args.slug)} if args.slug else methods()
    if args.slug and not found[args.slug]:
        raise UserError(f"there is no method {args.slug!r} with actions; {did_you_mean(args.slug, methods())}")
    rows = [{"method": slug, "action": name, "": one.help} for slug, actions in found.items() for name, one in actions.items()]
    print(json.dumps(rows)) if args.json else tables.show(rows, title="burnish method SLUG ACTION")
