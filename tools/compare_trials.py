"""How often does `burnish compare` call two arms different? Real runs, A against A with other seeds, and two learning rates.

python tools/compare_trials.py --shard 0/2     trains its share of the runs; finished ones are kept, so it may be stopped
python tools/compare_trials.py --report        compares them and writes docs/compare/trials.json and docs/compare.md
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.reports.compare.arm import Arm, read_arm
from burnish.reports.compare.comparison import compare_arms
from burnish.runs import atomic, environment
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.tasks.demonstrations import careless
from burnish.tasks.sort import Sort
from burnish.tasks.task import alphabet

TASK = Sort(length=5)
COMPARISONS, N = 20, 5
RATES = {"A": 2e-4, "B": 2e-5}
"""A runs with every seed; B with the first N, paired with A's."""
METRIC = "eval/success"
DOCS = Path("docs/compare")


def prepare(folder: Path) -> None:
    """Data and an SFT model that every run starts from."""
    if (folder / "ready").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    problems, held_out = TASK.items(8000, 0, "train"), TASK.items(128, 0, "test")
    for name, members in (("demonstrations", careless(problems, 0.7, 0)), ("problems", problems), ("held_out", held_out)):
        atomic.write_text(folder / f"{name}.jsonl", "".join(json.dumps(one.row()) + "\n" for one in members))
    words = tokenizer.characters(alphabet(TASK, 2000))
    save_model(tiny.make("qwen3", words, hidden=64, layers=2, heads=4, kv_heads=2, max_length=64), words, folder / "base")
    sft = {"steps": 200, "batch_size": 64, "learning_rate": 3e-3, "save_total_limit": 1}
    config = {"stage": "sft", "output": str(folder / "sft"), "model": {"path": str(folder / "base")}, "sft": sft, "threads": 1}
    train(build(TrainConfig, {**config, "data": {"path": str(folder / "demonstrations.jsonl")}}), command="compare_trials")
    atomic.write_text(folder / "ready", "")


def setting(folder: Path, arm: str, seed: int) -> TrainConfig:
    """One run: a few seconds."""
    rl = {
        "steps": 16, "learning_rate": RATES[arm], "prompts_per_step": 16, "group_size": 8, "max_new_tokens": 7, "slots": 128,
        "objective": "dr_grpo", "rewards": [{"name": "task", "task": "sort", "length": 5}], "save_steps": None, "keep_rollouts": 0,
    }  # fmt: skip
    return build(
        TrainConfig,
        {
            "seed": seed, "threads": 1, "output": str(folder / arm / f"seed{seed}"), "model": {"path": str(folder / "sft/checkpoint-200")},
            "data": {"path": str(folder / "problems.jsonl")}, "rl": rl,
            "eval": {"path": str(folder / "held_out.jsonl"), "steps": 4, "samples": 2, "metric_for_best": None},
        },
    )  # fmt: skip


def plan() -> list[tuple[str, int]]:
    """(arm, seed) of every run."""
    return [("A", seed) for seed in range(2 * N * COMPARISONS)] + [("B", seed) for seed in range(N)]


def work(folder: Path, shard: int, shards: int) -> None:
    """Trains this shard's runs, one after the other."""
    torch.set_num_threads(1)
    prepare(folder)
    for place, (arm, seed) in enumerate(plan()):
        if place % shards != shard:
            continue
        config = setting(folder, arm, seed)
        if not (Path(config.output) / "done").exists():
            started = Run.check(config.output, config, resume=True)
            train(config, command="compare_trials", resume=started)
            atomic.write_text(Path(config.output) / "done", "")
            print(arm, seed, flush=True)


def report(folder: Path) -> int:
    """Compares what was trained; returns the exit code: 0 where every run is there."""
    missing = [(arm, seed) for arm, seed in plan() if not (folder / arm / f"seed{seed}" / "done").exists()]
    if missing:
        print(f"{len(missing)} runs are missing; the first: {missing[0]}", file=sys.stderr)
        return 1

    def arm(name: str, setting_name: str, seeds: range) -> Arm:
        return read_arm(name, [folder / setting_name / f"seed{seed}" for seed in seeds], METRIC)

    pairs = [(range(2 * N * n, 2 * N * n + N), range(2 * N * n + N, 2 * N * (n + 1))) for n in range(COMPARISONS)]
    same = [compare_arms(arm("A", "A", left), arm("B", "A", right), METRIC) for left, right in pairs]
    again = compare_arms(arm("A", "A", range(N)), arm("B", "A", range(N)), METRIC)
    rates = compare_arms(arm("A", "A", range(N)), arm("B", "B", range(N)), METRIC)
    last = np.array([value for one in same for value in (*one.a, *one.b)])
    found = {
        "runs": len(plan()),
        "seeds_an_arm": N,
        "metric": METRIC,
        "between_seed_sd": float(last.std(ddof=1)),
        "mean": float(last.mean()),
        "a_against_a": [one.to_dict() for one in same],
        "called_different": sum(one.verdict != "no difference found" for one in same),
        "same_seeds": again.to_dict(),
        "learning_rates": rates.to_dict() | {"in_between_seed_sds": abs(rates.difference.mean) / float(last.std(ddof=1))},
        "rates": RATES,
        "environment": environment.describe(),
    }
    DOCS.mkdir(parents=True, exist_ok=True)
    atomic.write_text(DOCS / "trials.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: found[key] for key in ("called_different", "between_seed_sd", "mean")}))
    print(again.sentence(), rates.sentence(), sep="\n")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "burnish-compare-trials"), help="where the runs go")
    parser.add_argument("--shard", default="0/1", help="which share of the runs, such as 0/2")
    parser.add_argument("--report", action="store_true", help="compare what was trained")
    args = parser.parse_args()
    if args.report:
        return report(Path(args.folder))
    shard, shards = map(int, args.shard.split("/"))
    work(Path(args.folder), shard, shards)
    return 0


if __name__ == "__main__":
    sys.exit(main())
