"""Make training data: text, problems or records turned into rows that `burnish train` reads.

burnish data                  what there is
burnish data NAME --help      how one is used
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

HELP = "make training data from text, problems or records"


def choose(words: Sequence[str]) -> tuple[str, Any, list[str]] | None:
    """The command that the first word names: (the word, the action, the words that are left)."""
    from burnish.recipes.actions import data_commands
    from burnish.runs.errors import UserError, did_you_mean

    if not words or words[0].startswith("-"):
        return None
    found, name = data_commands(), words[0].replace("_", "-")
    if name not in found:
        raise UserError(f"burnish data makes no {words[0]!r}; {did_you_mean(name, found)}")
    return name, found[name], list(words[1:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing but the name, which `choose` reads."""
    parser.add_argument("name", nargs="?", help="what to make, and then its own arguments")


def run(args: argparse.Namespace) -> None:
    """Prints what there is."""
    from burnish.recipes.actions import data_commands
    from burnish.reports import tables

    rows = [{"name": name, "": one.help} for name, one in data_commands().items()]
    print(json.dumps(rows)) if args.json else tables.show(rows, title="burnish data NAME")
