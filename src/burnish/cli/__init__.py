"""The command line: one file per verb, no logic.

A verb is a module here with `HELP` (one line), `add_arguments(parser)` and `run(args) -> int | None`; `burnish VERB` finds it by
listing this package. A verb that takes configuration flags sets `TAKES_FLAGS = True` and finds the rest of the line in `args.flags`;
the whole line is in `args.command_line`. A verb whose first words may name an action of a method has `choose(words)`, which gives
(those words, the action, the words that are left), or None where the verb itself is meant.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import pkgutil
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

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
    try:
        with quiet(debug):
            return dispatch(words)
    except UserError as error:
        return fail(str(error), 2, debug, error)
    except KeyboardInterrupt as error:
        return fail(str(error) or "interrupted; nothing half-written was left behind", 130, debug, error)
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
    module: Any = load(verb)
    named, description, rest = verb, module.__doc__, words[1:]
    if hasattr(module, "choose") and (chosen := module.choose(rest)) is not None:
        own_words, module, rest = chosen
        named, description = f"{verb} {own_words}", module.description or module.help
    parser = Parser(
        prog=f"burnish {named}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document for machines instead of text and progress bars")
    own, flags = parser.split(rest) if getattr(module, "TAKES_FLAGS", False) else (rest, [])
    args = parser.parse_intermixed_args(own)
    args.flags, args.options = flags, parser.long_options
    args.command_line = shlex.join(["burnish", *words])
    return module.run(args) or 0


@contextlib.contextmanager
def quiet(debug: bool = False) -> Iterator[None]:
    """Keeps what other libraries say (warnings, logs, progress bars) off the terminal; burnish's own warnings take one line each."""
    if debug:
        yield
        return
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):  # read when these libraries are imported
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):  # the hub sets its own level when it is imported
        os.environ.setdefault(name, "error")
    if "transformers" in sys.modules:  # burnish called from Python: the variables come too late
        sys.modules["transformers"].utils.logging.disable_progress_bar()
        sys.modules["transformers"].utils.logging.set_verbosity_error()
    for name in ("torch", "peft", "datasets", "huggingface_hub", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(?!burnish\b)")
        warnings.showwarning = lambda message, *rest, **more: print(f"burnish: warning: {message}", file=sys.stderr)
        yield


class Parser(argparse.ArgumentParser):
    """argparse whose errors are UserErrors: one line, exit code 2."""

    @property
    def long_options(self) -> list[str]:
        """The verb's own options, without their dashes."""
        return [option[2:] for action in self._actions for option in action.option_strings if option.startswith("--")]

    def split(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """(words for this parser, configuration flags): every `--name` that is no option here is a flag, with its value."""
        own: list[str] = []
        flags: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                return [*own, word, *rest], flags
            name, equals, _ = word.partition("=")
            option = self._option_string_actions.get(name)
            into = own if option is not None or not word.startswith("--") else flags
            into.append(word)
            takes = option is None if into is flags else option is not None and option.nargs is None
            if takes and not equals and rest and not rest[0].startswith("--"):
                into.append(rest.pop(0))
        return own, flags

    def error(self, message: str):
        options = [option for action in self._actions for option in action.option_strings]
        word = message.removeprefix("unrecognized arguments: ").split()[0] if message.startswith("unrecognized") else ""
        hint = f"; {did_you_mean(word, options)}" if word.startswith("--") else f"; see `{self.prog} --help`"
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
    lines += [
        "",
        "`burnish COMMAND --help` explains one command, with examples; `burnish train --fields` lists every setting.",
        "--json prints for machines, --debug shows the traceback of an error. Exit codes: 0 fine, 2 bad input, 130 interrupted.",
    ]
    return "\n".join(lines)


def describe_os_error(error: OSError) -> str:
    """One line: which file, what happened, what to do."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in DISK:
        return f"{place}{DISK[error.errno]}; nothing half-written was left behind: free some space and run the same command again to resume"
    return f"{place}{error.strerror or error}; check that the path exists and that you may write there"


def fail(message: str, code: int, debug: bool, error: BaseException) -> int:
    """Prints one line (or, with --debug, the traceback) and returns the exit code. Of several processes that end alike, one speaks."""
    from burnish.runs import ranks

    if ranks.launched()[0] and not debug and not isinstance(error, ranks.RankLost):
        time.sleep(1)  # a launcher ends all as soon as one has ended: the one that speaks goes first
        return code
    if debug:
        import traceback

        traceback.print_exception(error)
    print(f"burnish: {'error: ' if code != 130 else ''}{' '.join(message.split())}", file=sys.stderr)
    return code
