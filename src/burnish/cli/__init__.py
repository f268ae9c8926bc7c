"""The command line: one file per verb, no logic.

A verb is a module here with `HELP` (one line), `add_arguments(parser)` and `run(args) -> int | None`; `burnish VERB` finds it by
listing this package. A verb that takes configuration flags sets `TAKES_FLAGS = True` and finds the rest of the line in `args.flags`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from burnish import __version__
from burnish.runs.errors import UserError, did_you_mean

DISK = {errno.ENOSPC: "the disk is full", errno.EFBIG: "a file-size limit was reached", errno.EDQUOT: "the disk quota is used up"}


def verbs() -> list[str]:
    """The names of all verbs, as typed."""
    return sorted(info.name.replace("_", "-") for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def load(verb: str) -> ModuleType:
    """The module of a verb; only the verb in use is imported."""
    return importlib.import_module(f"burnish.cli.{verb.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 fine, 1 a defect of burnish, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # ours are shown instead; must be set before transformers is imported
    try:
        return dispatch(words)
    except UserError as error:
        return fail(str(error), 2, debug, error)
    except KeyboardInterrupt as error:
        return fail("interrupted", 130, debug, error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return fail(describe_os_error(error), 2, debug, error)
    except Exception as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        message = f"internal error: {what}; this is a defect of burnish: run again with --debug"
        return fail(message, 1, debug, error)


def dispatch(words: list[str]) -> int:
    """Finds the verb, parses its arguments and runs it."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] in ("-V", "--version"):
        print(f"burnish {__version__}")
        return 0
    verb = words[0]
    if verb not in verbs():
        raise UserError(f"unknown command {verb!r}; {did_you_mean(verb, verbs())}")
    module = load(verb)
    parser = Parser(
        prog=f"burnish {verb}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document for machines instead of text and progress bars")
    if getattr(module, "TAKES_FLAGS", False):
        args, args.flags = parser.parse_known_args(words[1:])
    else:
        args = parser.parse_args(words[1:])
    return module.run(args) or 0


class Parser(argparse.ArgumentParser):
    """argparse whose errors are UserErrors: one line, exit code 2."""

    def error(self, message: str):
        options = [option for action in self._actions for option in action.option_strings]
        words = message.removeprefix("unrecognized arguments: ").split()
        hint = f"; {did_you_mean(words[0], options)}" if message.startswith("unrecognized") and words else f"; see `{self.prog} --help`"
        raise UserError(f"{self.prog}: {message}{hint}")


def overview() -> str:
    """The list of verbs."""
    lines = [
        f"burnish {__version__}: post-train a language model and measure whether it got better.",
        "",
        "usage: burnish COMMAND [options] [--debug]",
        "",
    ]
    lines += [f"  {verb:<12} {load(verb).HELP}" for verb in verbs()]
    return "\n".join([*lines, "", "`burnish COMMAND --help` explains one command. Exit codes: 0 fine, 2 bad input, 130 interrupted."])


def describe_os_error(error: OSError) -> str:
    """One line: which file, what happened, what to do."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in DISK:
        return f"{place}{DISK[error.errno]}; nothing half-written was left behind: free some space and run the same command again to resume"
    return f"{place}{error.strerror or error}; check that the path exists and that you may write there"


def fail(message: str, code: int, debug: bool, error: BaseException) -> int:
    """Prints one line (or, with --debug, the traceback) and returns the exit code."""
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"burnish: {'error: ' if code != 130 else ''}{' '.join(message.split())}", file=sys.stderr)
    return code
