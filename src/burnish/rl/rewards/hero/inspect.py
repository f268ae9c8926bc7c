"""`burnish method hero inspect`: HERO on recorded groups, without a run: bands, weights, advantages, and what they rest on."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.rl.rewards.hero.bands import Bands, Running, VarianceWeight, sigma_of
from burnish.rl.rewards.hero.recorded import Recorded, read
from burnish.runs.actions import Action
from burnish.runs.config import build

DESCRIPTION = """HERO on recorded groups: what the bands, weights and advantages of each prompt would be, and what they rest on.

A line of FILE is a JSON object:
  {"id": "q1", "verifier": [1, 0, 0], "score": [0.3, null, 1.2]}     a group (null: no score)
  {"group": "q1", "verifier": 1, "score": 0.3}                       one completion; lines of a group need not be neighbours
  a line of RUN/rollouts/step-*.jsonl                                 a group that `burnish train` recorded
With --scorer the recorded texts are scored now: groups then need "completions" (texts) and, for a reward model, "prompt".
Each FILE is one batch; a run folder is one batch for each recorded step. The running mean of sigma goes on from batch to batch.

  burnish method hero inspect log.jsonl
  burnish method hero inspect runs/mine --alpha 0.1 --beta 0.1 --out shaped.jsonl"""

MOST = 20
"""Groups that are shown."""
WORDS = {
    "sigma": "sigma: spread of a prompt's scores",
    "sigma_bar": "sigma_bar: its running mean, after the last batch",
    "right": "right completions of a group",
    "wrong": "wrong completions of a group",
    "uniform_right": "share of groups that are all right",
    "uniform_wrong": "share of groups that are all wrong",
    "missing": "scores that are missing",
    "weight": "weight of a group",
    "agreement": "rank agreement on mixed groups (AUROC; 0.5: none)",
}


def inspect(
    batches: Sequence[Sequence[Recorded]], bands: Bands, weight: VarianceWeight | None, sigma_bar: float | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, one row for each group): what HERO would make of them. Advantages are centred, then weighed.

    sigma_bar: the running mean before the first batch; None: that batch's own mean.
    """
    from burnish.rl.rewards.hero.shaper import diagnosis, summary

    running = Running(weight.momentum if weight is not None else 0.9, sigma_bar)
    rows, seen = [], []
    for number, batch in enumerate(batches, start=1):
        sigmas = [sigma_of(one.score) for one in batch]
        told = [sigma for sigma, one in zip(sigmas, batch) if sum(map(math.isfinite, one.score)) > 1]
        running.begin(told)
        for one, sigma in zip(batch, sigmas):
            factor = weight.weight(sigma, running) if weight is not None and running.mean is not None else 1.0
            rewards = bands.rewards(one.right, one.score)
            advantage = (rewards - rewards.mean()) * factor if len(rewards) > 1 else np.zeros(len(rewards))
            found = diagnosis(one.right, one.score, {"sigma": sigma, "weight": factor})
            seen.append(found)
            lists = {"reward": rewards.tolist(), "advantage": advantage.tolist()}
            rows.append({"batch": number, "id": one.id, **found, **lists})
        running.move(told)
    out = {"groups": len(rows), "completions": sum(len(one.right) for batch in batches for one in batch), **summary(seen)}
    return {**out, "sigma_bar": running.mean}, rows


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="JSONL files or run folders")
    parser.add_argument("--alpha", type=float, default=0.05, help="half the width of the wrong completions' band")
    parser.add_argument("--beta", type=float, default=0.05, help="half the width of the right completions' band")
    parser.add_argument("--singleton-z", type=float, default=0.0, help="place in the band where all scores of a stratum are equal")
    parser.add_argument("--w-min", type=float, default=0.5, help="weight of prompts whose scores agree")
    parser.add_argument("--w-max", type=float, default=2.0, help="weight of prompts whose scores disagree")
    parser.add_argument("--k", type=float, default=5.0, help="steepness between them")
    parser.add_argument("--no-weight", action="store_true", help="bands alone")
    parser.add_argument("--sigma-bar", type=float, help="running mean of sigma before the first batch; default: that batch's own mean")
    parser.add_argument("--scorer", help="score the recorded texts: a reward model's folder or hub id, or file.py:function")
    parser.add_argument("--out", help="write every group with its rewards, weight and advantages to this JSONL file")


def _run(args: argparse.Namespace) -> int:
    from burnish.rl.rewards.hero.scorer import Scorer
    from burnish.runs import atomic

    bands = build(Bands, {"alpha": args.alpha, "beta": args.beta, "singleton_z": args.singleton_z}, "hero inspect")
    fields = {"w_min": args.w_min, "w_max": args.w_max, "k": args.k}
    weight = None if args.no_weight else build(VarianceWeight, fields, "hero inspect")
    scorer = None if args.scorer is None else Scorer(args.scorer, "hero inspect")
    batches = [batch for name in args.files for batch in read(Path(name), scorer)]
    summary, rows = inspect(batches, bands, weight, args.sigma_bar)
    if args.out:
        atomic.write_text(Path(args.out), "".join(json.dumps(row) + "\n" for row in rows))
    print(json.dumps({"summary": summary, "groups": rows}) if args.json else text(summary, rows, args.out))
    return 0


def text(summary: dict[str, Any], rows: Sequence[dict[str, Any]], out: str | None = None) -> str:
    """For people: the diagnosis, then the first groups."""
    shown = {key: value for key, value in summary.items() if value is not None}
    lines = [f"{WORDS.get(key, key):<58} {value:.4g}" for key, value in shown.items()]
    if summary.get("agreement") is None:
        lines.append("no group is mixed: nothing here says whether the scorer ranks right above wrong")
    lines += ["", "group: weight; rewards"]
    for row in rows[:MOST]:
        lines.append(f"{row['id']}: {row['weight']:.3f}; {' '.join(f'{value:.4f}' for value in row['reward'])}")
    if len(rows) > MOST:
        lines.append(f"... and {len(rows) - MOST} more" + ("" if out else "; --out FILE writes all"))
    return "\n".join(lines)


INSPECT = Action("HERO's rewards, weights and diagnosis of recorded groups", _arguments, _run, DESCRIPTION)
