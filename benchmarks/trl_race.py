"""burnish against TRL: whole GRPO steps in CPU seconds, interleaved step by step and paired.

    python -m benchmarks.trl_race [--cases fixed long-tailed] [--steps 32] [--json FILE]
    python -m benchmarks.trl_race --settings       # tries what may be chosen on TRL's side, and prints what is fastest

Each side is a process of its own with one thread; the two take turns step by step, in the order AB BA AB ..., so that neither
one's garbage, memory or heat is the other's, and a slow minute of the machine meets both. A step is everything its trainer does:
generation, reward, log-probs, update. Before any timing both compute the first step of one frozen batch, and unless loss and
gradient agree to 1e-5 the benchmark stops.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import torch
from benchmarks.provenance import provenance
from benchmarks.race import agreement, setup, trl_side

WARM_UP = 2
WANTED = 0.5
PARTS = {"cpu": "whole step", "generate": "generation", "rest": "rest of the step"}
TRIED = (
    {},
    {"attn_implementation": "eager"},
    {"cache_implementation": "static"},
    {"passes": 2},
    {"passes": 4},
    {"passes": 8},
    {"optim": "adamw_torch"},
    {"use_transformers_continuous_batching": True},
)


class Side:
    """One side's process. module: what it runs."""

    module = "benchmarks.race.side"

    def __init__(self, *arguments: str):
        env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", self.module, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        self.about = self._read()

    def step(self) -> dict[str, Any]:
        """One step; what it reported."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            lines = self.process.stderr.read().strip().splitlines()
            raise RuntimeError("a side of the race ended: " + (lines[-1] if lines else "without a word"))
        return json.loads(line)


def race(name: str, steps: int, flags: trl_side.Flags) -> dict[str, Any]:
    """{"agreement", "burnish": rows, "trl": rows, "ratios": {part: ...}} of one case; the first WARM_UP steps are left out."""
    case = setup.CASES[name]
    agreed = agreement.check(case, flags)
    print(f"{case.name}: loss and gradient agree: {json.dumps(agreed)}", flush=True)
    total = steps + WARM_UP
    sides = {
        "burnish": Side("burnish", name, str(total + 1)),
        "trl": Side("trl", name, str(total + 1), json.dumps(dataclasses.asdict(flags))),
    }
    rows: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    try:
        for number in range(total):
            for side in ("burnish", "trl") if number % 2 else ("trl", "burnish"):
                rows[side].append(sides[side].step())
    finally:
        for each in sides.values():
            each.close()
    for row in (row for kept in rows.values() for row in kept):
        row["rest"] = row["cpu"] - row["generate"]
    rows = {side: kept[WARM_UP:] for side, kept in rows.items()}
    about = {side: each.about for side, each in sides.items()}
    return {"case": case.name, "agreement": agreed, "about": about, "ratios": ratios(rows), "steps": rows}


def ratios(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """For each part: medians of both, and the median of the pairs' ratios burnish / TRL with a 95 % bootstrap interval."""
    out: dict[str, Any] = {}
    for part in PARTS:
        a, b = (np.array([row[part] for row in rows[side]]) for side in ("burnish", "trl"))
        low, high = bootstrap_median(a / b)
        out[part] = {
            "burnish_s": float(np.median(a)),
            "trl_s": float(np.median(b)),
            "ratio": float(np.median(a / b)),
            "low": low,
            "high": high,
        }
    for side, kept in rows.items():
        out[f"mean_length_{side}"] = float(np.mean([row["mean_length"] for row in kept]))
        out[f"longest_{side}"] = float(np.mean([row["max_length"] for row in kept]))
    return out


def bootstrap_median(values: np.ndarray, draws: int = 5000, seed: int = 0) -> tuple[float, float]:
    """A 95 % percentile interval of the median."""
    picked = np.random.default_rng(seed).integers(0, len(values), size=(draws, len(values)))
    low, high = np.percentile(np.median(values[picked], axis=1), [2.5, 97.5])
    return float(low), float(high)


def show(found: dict[str, Any]) -> None:
    """The table of one case."""
    r = found["ratios"]
    print(f"\n{found['case']}  ({len(found['steps']['trl'])} paired steps, CPU seconds, one thread)")
    print(f"  mean length: burnish {r['mean_length_burnish']:.1f}, TRL {r['mean_length_trl']:.1f}; ", end="")
    print(f"longest of a step, mean: {r['longest_burnish']:.0f}, {r['longest_trl']:.0f}")
    print(f"  {'':18}{'burnish':>9}{'TRL':>9}{'ratio':>8}   95 % interval   wanted")
    for part, label in PARTS.items():
        row = r[part]
        wanted = "" if part == "rest" else f"<= {WANTED}: {'met' if row['ratio'] <= WANTED else 'missed'}"
        times = f"{row['burnish_s']:9.3f}{row['trl_s']:9.3f}{row['ratio']:8.3f}"
        print(f"  {label:18}{times}   [{row['low']:.3f}, {row['high']:.3f}]   {wanted}", flush=True)


def try_settings(name: str, steps: int) -> None:
    """Median CPU seconds of TRL's step under each of TRIED, interleaved; a setting that fails says why."""
    sides: dict[str, Side] = {}
    for changes in TRIED:
        label = json.dumps(changes)
        try:
            sides[label] = Side("trl", name, "1000", json.dumps(dataclasses.asdict(trl_side.Flags(**changes))))
            sides[label].step()
        except RuntimeError as error:
            print(f"{label}: {error}", flush=True)
            sides.pop(label, None)
    rows: dict[str, list[dict[str, Any]]] = {label: [] for label in sides}
    for _ in range(steps):
        for label, side in sides.items():
            rows[label].append(side.step())
    for label, kept in rows.items():
        medians = {part: round(float(np.median([row[part] for row in kept])), 3) for part in ("cpu", "generate")}
        print(f"{label}: {medians}", flush=True)
        sides[label].close()


def earlier(path: str | None) -> dict[str, Any]:
    """The cases that a result file holds, each with the provenance of its own run."""
    if path is None or not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    return {name: {"provenance": found["provenance"]} | case for name, case in found["cases"].items()}


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["fixed", "long-tailed"], choices=sorted(setup.CASES))
    parser.add_argument("--steps", type=int, default=32, help="paired steps that count, after the warm-up")
    parser.add_argument("--json", help="write everything there; cases that it holds and that are not run now stay")
    parser.add_argument("--settings", action="store_true", help="try TRL's settings instead")
    parser.add_argument("--flags", type=json.loads, default={}, help="TRL's flags as JSON (see race/trl_side.py)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if args.settings:
        for name in args.cases:
            print(setup.CASES[name].name)
            try_settings(name, args.steps)
        return
    flags = trl_side.Flags(**args.flags)
    result: dict[str, Any] = {"provenance": provenance(), "both": setup.STATED, "cases": earlier(args.json)}
    for name in args.cases:
        stated = trl_side.stated(setup.CASES[name], flags)
        print(f"TRL's settings for {name}: {json.dumps(stated)}", flush=True)
        found = race(name, args.steps, flags)
        result["cases"][name] = found | {"trl_settings": stated, "provenance": provenance()}
        show(found)
        if args.json:
            with open(args.json, "w", encoding="utf-8") as file:
                json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
