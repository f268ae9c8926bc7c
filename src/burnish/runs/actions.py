"""Action: one thing that a method does on the command line; see `burnish.recipes.actions` for where they are looked for."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Action:
    """help: one line. add_arguments: declares options on a parser (which adds `--json` itself). run: does it; an exit code or None.

    description: what `--help` says first, examples included; "": the help line. `run` finds the whole line in `args.command_line`.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    description: str = ""
