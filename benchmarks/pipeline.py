"""PipelineRL-k on this machine: wall time, waiting and learning curves against the synchronous trainer, and kills of either process.

Run `python -m benchmarks.pipeline [--seeds 3] [--kills 20] [--small] [--json docs/benchmarks/pipeline.json] [--folder DIR]`. Each seed is
trained synchronously (one process, lag 0) and with rl.processes 2 (lag 8), one after the other, from the same model to the same number of
updates. The wall time is that from the start of the first step to the end of the last, evaluations left out; the seconds in which the
second process starts are given apart. Then one run with rl.processes 2 is killed again and again, its generator and its learner in turn.
Give it two free cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.provenance import provenance

from benchmarks import pipeline_kills, pipeline_world


def one_run(folder: Path, name: str, seed: int, size: dict[str, Any], processes: int, lag: int) -> dict[str, Any]:
    """Trains; returns wall seconds, shares of waiting and the learning curve."""
    output = folder / f"{name}-{seed}"
    process = pipeline_kills.start(pipeline_world.settings(folder, output, seed, size, processes, lag))
    if process.wait() != 0:
        raise SystemExit(f"{output} ended with status {process.returncode}: {output.with_suffix('.err').read_text()[-2000:]}")
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["step"]]
    starting = 0.0
    if processes == 2:  # from the moment at which the learner had everything ready to that at which the generator had
        journal = [json.loads(line) for line in (output / "pipeline" / "journal.jsonl").read_text().splitlines()]
        starting = next(line["at"] for line in journal if "start" in line) - journal[0]["at"]
    curve = {row["step"]: row["eval/reward"] for row in rows if "eval/reward" in row}
    means = {key: statistics.fmean(row[f"pipeline/{key}"] for row in steps[1:]) for key in WAITS if f"pipeline/{key}" in steps[-1]}
    lengths = [row["completions/mean_length"] for row in steps], [row["completions/max_length"] for row in steps]
    return {
        "seconds": sum(row["time/step"] for row in steps) - starting,
        "seconds_starting_the_generator": starting,
        "seconds_generating": sum(row.get("time/generate", 0.0) for row in steps),
        **means,
        "oldest_token": max(row.get("pipeline/lag_max", 0.0) for row in steps),
        "mean_length": statistics.fmean(lengths[0]),
        "longest": max(lengths[1]),
        "tokens": steps[-1]["compute/tokens"],
        "curve": curve,
        "last": statistics.fmean(list(curve.values())[-2:]),
    }


WAITS = ("learner_waiting", "generator_waiting", "lag_mean", "mixed")


def judge(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios of wall time, and whether the pipeline's end is below the synchronous one by more than the seeds differ."""
    sync, piped = ([row[name]["last"] for row in found] for name in ("synchronous", "pipeline"))
    spread = max(max(sync) - min(sync), max(piped) - min(piped))
    ratios = [row["pipeline"]["seconds"] / row["synchronous"]["seconds"] for row in found]
    return {
        "wall_time_ratio": statistics.median(ratios),
        "wall_time_ratios": ratios,
        "last_synchronous": statistics.fmean(sync),
        "last_pipeline": statistics.fmean(piped),
        "seed_spread": spread,
        "worse_by_more_than_the_spread": statistics.fmean(sync) - statistics.fmean(piped) > spread,
    }


def main() -> None:
    """Prints the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="a few steps of a smaller model, to see that it works")
    parser.add_argument("--folder", help="where the runs are written (a temporary folder)")
    parser.add_argument("--json", help="write the results there")
    args = parser.parse_args()
    size = pipeline_world.SMALL if args.small else pipeline_world.FULL
    folder = Path(args.folder or tempfile.mkdtemp(prefix="pipeline-"))
    out: dict[str, Any] = {**provenance(), "settings": {"threads_of_a_process": 1, **size}}
    pipeline_world.prepare(folder, size)
    found = []
    for seed in range(args.seeds):
        one = {"synchronous": one_run(folder, "synchronous", seed, size, 1, 0)}
        one["pipeline"] = one_run(folder, "pipeline", seed, size, 2, size["lag"])
        found.append({"seed": seed, **one})
    if found:
        out |= {"runs": found, "comparison": judge(found)}
    if args.kills:
        config = pipeline_world.settings(folder, folder / "killed", 100, size, 2, size["lag"])
        config["rl"]["steps"] = max(size["steps"], 3 * args.kills)
        plan = [("generator", "learner")[number % 2] for number in range(args.kills)]
        out["kills"] = pipeline_kills.run_with_kills(config, plan, seed=7)
    text = json.dumps(out, indent=1)
    print(text)
    if args.json:
        Path(args.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
