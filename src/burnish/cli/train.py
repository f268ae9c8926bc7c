"""Fine-tune a model (stage sft) or improve it by reinforcement learning (stage rl).

burnish train config.yaml                         everything from a file
burnish train config.yaml --rl.steps 200          flags win over the file
burnish train --model.path M --data.path D.jsonl --rl.rewards '[reward.py:score]' --output runs/a
burnish train config.yaml --check                 look before you leap: no update is made
burnish train config.yaml --resume                go on where a stopped or killed run ended
"""

from __future__ import annotations

import argparse
import json
import sys

HELP = "fine-tune or improve a model on your data with your reward"
TAKES_FLAGS = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and what is not part of the configuration."""
    parser.add_argument("config", nargs="?", help="YAML file; every field of it is also a flag (--rl.steps 200)")
    parser.add_argument("--check", action="store_true", help="show prompts, loss masks, rewards and samples of eight rows, then stop")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the run folder")
    parser.add_argument("--dry-run", action="store_true", help="print the whole configuration, estimate FLOPs, memory and time, and stop")
    parser.add_argument("--fields", action="store_true", help="list every field with its type, default and meaning, and stop")


def run(args: argparse.Namespace) -> None:
    """Loads the configuration and trains."""
    from burnish.recipes.config import TrainConfig
    from burnish.reports.fields import fields_text
    from burnish.runs import ranks
    from burnish.runs.config import describe_fields, load_config, plain, to_yaml
    from burnish.runs.errors import UserError

    if ranks.launched()[0] and (args.fields or args.dry_run or args.check):
        return  # of several processes the main one prints
    if args.fields:
        rows = describe_fields(TrainConfig)
        names = ("field", "type", "default", "meaning")
        print(json.dumps([dict(zip(names, row)) for row in rows], indent=1) if args.json else fields_text(rows))
        return
    if args.config is None and not args.flags:
        raise UserError("burnish train: give a YAML file or flags; `burnish train --fields` lists them all")
    config = load_config(TrainConfig, args.config, args.flags, args.options)
    if args.dry_run:
        from burnish.recipes.estimate import estimate
        from burnish.recipes.refusals import refuse_impossible
        from burnish.reports import tables

        refuse_impossible(config, False, None)
        expected = estimate(config)
        if args.json:
            print(json.dumps({"config": plain(config), "estimate": expected.to_dict()}, indent=1))
            return
        print(to_yaml(config), end="")  # alone on stdout: `--dry-run > resolved.yaml` reads back
        tables.show(expected.rows(), f"Estimate for {expected.machine.name}", file=sys.stderr)
        print("\n".join(expected.notes), file=sys.stderr)
        return
    if args.check:
        from burnish.recipes.check import check, show

        found = check(config)
        print(json.dumps(found.to_dict(), indent=2)) if args.json else show(found)
        return
    from burnish.recipes.train import train
    from burnish.reports.report import write_report
    from burnish.reports.terminal import summary

    result = train(config, resume=args.resume, command=args.command_line, silent=args.json)
    if not ranks.current().is_main:
        return
    report = write_report(result["run"].path)
    if args.json:
        print(
            json.dumps(
                {key: value for key, value in result.items() if isinstance(value, int | float | str | None)} | {"report": str(report)}
            )
        )
        return
    summary(result["run"].path)
    print(f"Report: {report}")
