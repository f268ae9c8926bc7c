"""`burnish method g2rl geometry`: what the updates of a run's recorded groups look like, under any model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.runs.actions import Action
from burnish.runs.errors import UserError

if TYPE_CHECKING:
    from burnish.records import Group

DESCRIPTION = """The update geometry of recorded groups: mean cosine between the rollouts of a group, share of pairs that point apart,
effective rank, rollouts without a direction; with --ngram also the cosine between their texts.

RUN is a run folder with rollouts/step-*.jsonl (rl.keep_rollouts above 0), or one such file. All of it is measured under one model: by
default the run's newest checkpoint.

  burnish method g2rl geometry runs/mine
  burnish method g2rl geometry runs/mine --model my-base --ngram 3 --json"""
COLUMNS = ("groups", "mean_cosine", "negative_share", "effective_rank", "tiny", "text_cosine")


def measure(policy: Any, groups: Sequence[tuple[Group, list[str]]], **fields: Any) -> dict[str, float]:
    """Means over the groups of at least two valid rollouts (tiny: a sum). fields: of `UpdateGeometry`. Temperature: as drawn."""
    from burnish.rl.batch import Batch
    from burnish.rl.rewards.g2rl.shaper import UpdateGeometry
    from burnish.tasks.completions import Completions

    heat = {turn.sampling.temperature or 1.0 for group, _ in groups for rollout in group.rollouts for turn in rollout.turns}
    if len(heat) > 1:
        raise UserError(f"the rollouts were drawn at temperatures {sorted(heat)}; measure steps of one temperature at a time")
    watch = UpdateGeometry(temperature=heat.pop() if heat else 1.0, **fields)
    for group, texts in groups:
        measured = policy.score(group.rollouts, watch.needs)
        group.scores[:] = watch.shape(Completions(group.item, group.rollouts, texts), group.scores, measured)
    watch.observe(Batch(0, 0, [group for group, _ in groups]))
    found = {name.rpartition("/")[2]: value for name, value in watch.metrics().items()}
    return {"groups": float(len(groups)), **{name: found[name] for name in COLUMNS if name in found}}


def read(path: Path) -> dict[str, list[tuple[Group, list[str]]]]:
    """file's name -> its groups with their texts. Raises UserError naming file and line."""
    from burnish.rl.batch import group_from_dict

    files = sorted((path / "rollouts").glob("step-*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path} has no rollouts/step-*.jsonl; train with rl.keep_rollouts above 0, or name such a file")
    out: dict[str, list[tuple[Group, list[str]]]] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}; name a run folder") from None
        out[file.stem] = []
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                out[file.stem].append((group_from_dict(row), list(row["texts"])))
            except (KeyError, TypeError, ValueError) as error:
                why = " ".join(str(error).split())
                raise UserError(f"{file}, line {number}: not a group as `burnish train` records it ({why}); name a run folder") from None
    return out


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or one of its rollouts/step-*.jsonl")
    parser.add_argument("--model", help="folder or hub id; default: the newest checkpoint of RUN")
    parser.add_argument("--centre", action="store_true", help="take each group's mean direction away first")
    parser.add_argument("--ngram", type=int, default=0, help="also compare texts by character n-grams of this length")


def _run(args: argparse.Namespace) -> int:
    from burnish.models.load import load_model
    from burnish.models.policy import Policy
    from burnish.runs import checkpoints

    path = Path(args.run)
    steps = read(path)
    model = args.model or (checkpoints.newest(path) if path.is_dir() else None)
    if model is None:
        raise UserError(f"{path} holds no checkpoint; name the model that is to be asked: --model FOLDER")
    policy = Policy(*load_model(str(model)))
    found = {name: measure(policy, groups, centre=args.centre, ngram=args.ngram) for name, groups in steps.items()}
    if args.json:
        print(json.dumps({"model": str(model), "steps": found}))
        return 0
    shown = [name for name in COLUMNS if any(name in row for row in found.values())]
    print(f"under {model}")
    print("  ".join(["step".ljust(14), *(name.rjust(14) for name in shown)]))
    for step, row in found.items():
        print("  ".join([step.ljust(14), *(f"{row[name]:14.4g}" if name in row else " " * 14 for name in shown)]))
    return 0


GEOMETRY = Action("the update geometry of a run's recorded groups", _arguments, _run, DESCRIPTION)
