"""How often does `burnish compare` call two arms different? Real runs, A against A with other seeds, and two learning rates.

python tools/compare_trials.py --shard 0/2     trains its share of the runs; finished ones are kept, so it may be stopped
python tools/compare_trials.py --report        compares them and writes docs/compare/trials.json and docs/compare.md
--same-seeds with either                       only the runs with the same seeds twice, and only their row; the other figures stay
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.reports.compare.arm import Arm, read_arm
from burnish.reports.compare.comparison import Comparison, compare_arms
from burnish.runs import atomic, environment
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.tasks.demonstrations import careless
from burnish.tasks.sort import Sort
from burnish.tasks.task import alphabet

TASK = Sort(length=5)
COMPARISONS, N = 20, 3
"""A against A: comparisons, and seeds of each arm."""
PAIRS = 5
"""Two learning rates: pairs of seeds."""
RATES = {"A": 2e-4, "B": 2e-5}
"""A runs with every seed; B with the first PAIRS."""
AGAIN = "A-again"
"""The folder of the second runs of A with its first PAIRS seeds. Two shards train a run and its repetition in different processes."""
METRIC = "eval/success"
ROOT = Path(__file__).resolve().parents[1]
DOCS, PAGE = ROOT / "docs/compare", ROOT / "docs/compare.md"
HEAD = """# Comparing two settings

`burnish compare a.yaml b.yaml --seeds 5` trains both on the same seeds, so that a pair shares data order, held-out items and the random
numbers of its evaluation, and compares them at the FLOPs that every run reached. With the same seeds in both arms the differences of the
pairs are judged (Student's t over pairs), with other seeds the arms (Welch's t). Where the interval holds zero, it says how many seeds
would tell a difference of that size (or of `--effect`) apart. The interval is over seeds, for this set of held-out items.

B may be a file, a folder of runs that are there already, or changes to A: `burnish compare a.yaml 'rl.objective=dapo'`.
It leaves `comparison.html` with learning curves against FLOPs, tokens and seconds, and `comparison.json`.

This page is written by `python tools/compare_trials.py --report` from `docs/compare/trials.json`.
"""


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
    rate = RATES["B" if arm == "B" else "A"]
    rl = {
        "steps": 16, "learning_rate": rate, "prompts_per_step": 16, "group_size": 8, "max_new_tokens": 7, "slots": 128,
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


def plan(same_seeds: bool = False) -> list[tuple[str, int]]:
    """(arm, seed) of every run. same_seeds: only of those that are run twice."""
    twice, again = ([(arm, seed) for seed in range(PAIRS)] for arm in ("A", AGAIN))
    if same_seeds:
        return twice + again
    return [("A", seed) for seed in range(2 * N * COMPARISONS)] + [("B", seed) for seed in range(PAIRS)] + again


def work(folder: Path, shard: int, shards: int, same_seeds: bool = False) -> None:
    """Trains this shard's runs, one after the other."""
    torch.set_num_threads(1)
    prepare(folder)
    for place, (arm, seed) in enumerate(plan(same_seeds)):
        if place % shards != shard:
            continue
        config = setting(folder, arm, seed)
        if not (Path(config.output) / "done").exists():
            started = Run.check(config.output, config, resume=True)
            train(config, command="compare_trials", resume=started)
            atomic.write_text(Path(config.output) / "done", "")
            print(arm, seed, flush=True)


def described() -> dict[str, Any]:
    """The environment, without the path of its interpreter."""
    return environment.describe() | {"executable": "python"}


def read(folder: Path, name: str, runs: str, seeds: range) -> Arm:
    """An arm of runs in folder/runs."""
    return read_arm(name, [folder / runs / f"seed{seed}" for seed in seeds], METRIC)


def compare_again(folder: Path) -> Comparison:
    """A against other runs of A with the same seeds."""
    return compare_arms(read(folder, "A", "A", range(PAIRS)), read(folder, "B", AGAIN, range(PAIRS)), METRIC)


def report(folder: Path, same_seeds: bool = False) -> int:
    """Compares what was trained; returns the exit code: 0 where every run is there. same_seeds: only that row is written anew."""
    missing = [(arm, seed) for arm, seed in plan(same_seeds) if not (folder / arm / f"seed{seed}" / "done").exists()]
    if missing:
        print(f"{len(missing)} runs are missing; the first: {missing[0]}", file=sys.stderr)
        return 1
    again = compare_again(folder)
    if same_seeds:
        found = json.loads((DOCS / "trials.json").read_text(encoding="utf-8"))
        found |= {"runs": len(plan()), "same_seeds": again.to_dict(), "same_seeds_environment": described()}
        atomic.write_text(DOCS / "trials.json", json.dumps(found, indent=1) + "\n")
        write_page()
        print(again.sentence())
        return 0

    def arm(name: str, setting_name: str, seeds: range) -> Arm:
        return read(folder, name, setting_name, seeds)

    pairs = [(range(2 * N * n, 2 * N * n + N), range(2 * N * n + N, 2 * N * (n + 1))) for n in range(COMPARISONS)]
    same = [compare_arms(arm("A", "A", left), arm("B", "A", right), METRIC) for left, right in pairs]
    rates = compare_arms(arm("A", "A", range(PAIRS)), arm("B", "B", range(PAIRS)), METRIC)
    last = np.array([value for one in same for value in (*one.a, *one.b)])
    found = {
        "runs": len(plan()),
        "seeds_an_arm": N,
        "metric": METRIC,
        "between_seed_sd": float(last.std(ddof=1)),
        "mean": float(last.mean()),
        "a_against_a": [one.to_dict() for one in same],
        "called_different": sum(one.verdict.endswith("is better") for one in same),
        "same_seeds": again.to_dict(),
        "learning_rates": rates.to_dict() | {"in_between_seed_sds": abs(rates.difference.mean) / float(last.std(ddof=1))},
        "rates": RATES,
        "environment": described(),
    }
    DOCS.mkdir(parents=True, exist_ok=True)
    atomic.write_text(DOCS / "trials.json", json.dumps(found, indent=1) + "\n")
    write_page()
    print(json.dumps({key: found[key] for key in ("called_different", "between_seed_sd", "mean")}))
    print(again.sentence(), rates.sentence(), sep="\n")
    return 0


def write_page(check: bool = False) -> bool:
    """docs/compare.md from docs/compare/trials.json; returns whether it was up to date."""
    found = json.loads((ROOT / "docs/compare/trials.json").read_text(encoding="utf-8"))
    rates = found["learning_rates"]
    text = (
        HEAD
        + f"""
## How often it errs

{found["runs"]} real runs: GRPO's kin (dr_grpo, 16 steps) on a small sorting model; {found["metric"]} on 128 held-out problems, mean
{found["mean"]:.3f} at the end, standard deviation between seeds {found["between_seed_sd"]:.4f}.

| comparison | result |
| --- | --- |
| A against A, other seeds, {found["seeds_an_arm"]} seeds an arm, {len(found["a_against_a"])} comparisons | \
{found["called_different"]} called different at 95 % |
| A against A, the same {len(found["same_seeds"]["a"])} seeds, trained twice | {found["same_seeds"]["sentence"]} |
| learning rates {found["rates"]["A"]:g} and {found["rates"]["B"]:g}, {len(rates["a"])} pairs \
({rates["in_between_seed_sds"]:.1f} between-seed standard deviations apart) | {rates["sentence"]} |
"""
    )
    same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
    if not same and not check:
        atomic.write_text(PAGE, text)
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "burnish-compare-trials"), help="where the runs go")
    parser.add_argument("--shard", default="0/1", help="which share of the runs, such as 0/2")
    parser.add_argument("--report", action="store_true", help="compare what was trained")
    parser.add_argument("--same-seeds", action="store_true", help="only the runs with the same seeds twice, and their row")
    parser.add_argument("--check", action="store_true", help="fail where docs/compare.md is out of date")
    args = parser.parse_args()
    if args.check:
        return 0 if write_page(check=True) else 1
    if args.report:
        return report(Path(args.folder), args.same_seeds)
    shard, shards = map(int, args.shard.split("/"))
    work(Path(args.folder), shard, shards, args.same_seeds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
