"""Write a run's model as a plain Hugging Face folder: adapter merged, model card written.

burnish export runs/a out/model                   the best checkpoint (the newest where none was picked)
burnish export runs/a out/model --push me/model   and upload it to the hub
"""

from __future__ import annotations

import argparse
import json

HELP = "the trained model as a plain folder, adapter merged, with a model card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Run, place and what to do with it."""
    parser.add_argument("run", help="run folder, or a model or adapter folder")
    parser.add_argument("output", help="folder to write")
    parser.add_argument("--checkpoint", default="best", help="best, last or a step number")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload to the hub")
    parser.add_argument("--public", action="store_true", help="make the pushed repository public")


def run(args: argparse.Namespace) -> None:
    """Exports."""
    from burnish.recipes.export import export

    path = export(args.run, args.output, args.checkpoint, args.push, private=not args.public)
    print(json.dumps({"output": str(path)}) if args.json else f"Model: {path}")
