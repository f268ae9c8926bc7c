"""Measures `burnish doctor` on short real runs: ten planted faults at two strengths, and twenty healthy runs, on one task.

    python tools/doctor_trials.py --task sort              run what is missing (two processes, one thread each), then print the table
    python tools/doctor_trials.py --task sort --again      diagnose the runs that are there once more, without running them
    python tools/doctor_trials.py --table                  print the table and write docs/doctor/figures.md

Thresholds were chosen on `sort`; figures are read on the others. Run folders go to --work,
one small JSON for each run to docs/doctor/<task>/.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "doctor"


def main() -> None:
    """Runs, diagnoses, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="sort")
    parser.add_argument("--work", type=Path, default=Path("/tmp/doctor-trials"))
    parser.add_argument("--only", default="", help="trials whose id holds this text")
    parser.add_argument("--shard", default="0/1", help="k/n: every n-th trial from the k-th")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="only diagnose again")
    parser.add_argument("--train-only", action="store_true", help="train without a diagnosis: nothing of a new task is seen")
    parser.add_argument("--table", action="store_true", help="only print and write the table")
    args = parser.parse_args()
    if not args.table:
        run_all(args)
    from doctor_plants.table import write_table

    print(write_table(RESULTS))


def run_all(args: argparse.Namespace) -> None:
    """Every trial of the shard that has no result yet."""
    from doctor_plants.faults import faults
    from doctor_plants.healthy import healthy

    k, n = map(int, args.shard.split("/"))
    ids = [trial.id for trial in [*faults(args.task), *healthy(args.task)] if args.only in trial.id][k::n]
    jobs = [name for name in ids if args.again or not (RESULTS / args.task / f"{name}.json").exists()]
    if args.workers == 1:
        for name in jobs:
            print(one(args.task, name, str(args.work), args.again, args.train_only), flush=True)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.workers, mp_context=context) as pool:
        futures = [pool.submit(one, args.task, name, str(args.work), args.again, args.train_only) for name in jobs]
        for future in concurrent.futures.as_completed(futures):
            print(future.result(), flush=True)


def one(task: str, name: str, work: str, again: bool, train_only: bool) -> str:
    """One trial: train, diagnose, write its JSON; returns a line for the log."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT / "tools"))
    from doctor_plants.trial import run_trial

    try:
        result = run_trial(task, name, Path(work), again, train_only)
    except Exception:
        return f"{name}: FAILED\n{traceback.format_exc()}"
    if result is None:
        return f"{name}: no diagnosis"
    target = RESULTS / task / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    return f"{name}: found {[f['id'] for f in result['findings'] if f['severity'] != 'note']}"


if __name__ == "__main__":
    main()
