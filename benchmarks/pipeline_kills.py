"""Kills of either process of a run with rl.processes 2, and what must still be there afterwards."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
PATIENCE = 900.0


class Lost(AssertionError):
    """Something that had been finished is gone, or a process stayed behind."""


def run_with_kills(config: dict[str, Any], kills: list[str], seed: int) -> dict[str, Any]:
    """Runs to the end, killing "generator" or "learner" in this order at moments drawn by the seed. Raises Lost; returns counts."""
    output, dice = Path(config["output"]), random.Random(seed)
    learner = start(config)
    finished: dict[tuple[int, int], Any] = {}
    done: list[str] = []
    for kind in kills:
        before = seen(output)
        wait(learner, lambda before=before: seen(output) > before)
        wait(learner, lambda: generator_of(output) is not None)
        time.sleep(dice.uniform(0.0, 0.6))
        if learner.poll() is not None:
            break
        if kind == "generator":
            victim = generator_of(output)
            if victim is None:
                continue
            victim.kill()
            victim.wait(PATIENCE)
            note(output, finished)
        else:
            learner.kill()
            learner.wait()
            wait(None, lambda: generator_of(output) is None)  # no orphan
            note(output, finished)
            learner = start(config, "--resume")
        done.append(kind)
    if learner.wait(600) != 0:
        raise Lost(f"the run ended with status {learner.returncode}: {output.with_suffix('.err').read_text()[-2000:]}")
    wait(None, lambda: generator_of(output) is None)
    return {"kills": done, **check(output, finished, config["rl"]["steps"])}


def note(output: Path, finished: dict[tuple[int, int], Any]) -> None:
    """Keeps every group that is finished on disk right after a kill: of open batches and of finished ones."""
    folder = output / "pipeline"
    for path in folder.glob("open-*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            group = json.loads(line)
            finished[int(path.stem.partition("-")[2]), group["place"]] = [tokens(one) for one in group["rollouts"]]
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_bytes().split(b"\n")[:-1]]
    for step in (line["done"] for line in journal if "done" in line):
        path = folder / f"batch-{step:06d}" / "batch.json"
        if path.exists():
            for place, group in enumerate(json.loads(path.read_text())["state"]["groups"]):
                finished[step, place] = [tokens(one) for one in group["rollouts"]]


def tokens(rollout: dict[str, Any]) -> list[Any]:
    """What identifies a completion."""
    return [[turn["output_ids"], turn["logprobs"]] for turn in rollout["turns"]]


def check(output: Path, finished: dict[tuple[int, int], Any], steps: int) -> dict[str, Any]:
    """Everything that was finished was learnt from, as it was, in order and once; nothing was drawn twice."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    learnt = [row["step"] for row in rows if row["step"]]
    if learnt != list(range(1, steps + 1)):
        raise Lost(f"the steps in metrics.jsonl are {learnt}")
    for (step, place), expected in finished.items():
        groups = (output / "rollouts" / f"step-{step:06d}.jsonl").read_text().splitlines()
        if [tokens(one) for one in json.loads(groups[place])["rollouts"]] != expected:
            raise Lost(f"group {place} of step {step} was finished, and another was learnt from")
    journal = [json.loads(line) for line in (output / "pipeline" / "journal.jsonl").read_text().splitlines()]
    drawn = [(line["drawn"], line["round"]) for line in journal if "drawn" in line]
    if len(drawn) != len(set(drawn)) or len({line["first"] for line in journal if "first" in line}) != 1:
        raise Lost(f"a round was drawn twice: {sorted(drawn)}")
    starts = [line for line in journal if "start" in line]
    return {
        "groups_finished_at_a_kill": len(finished),
        "groups_half_done": sum(line["half_done"] for line in starts),
        "groups_in_all": sum(len((output / "rollouts" / f"step-{step:06d}.jsonl").read_text().splitlines()) for step in learnt),
        "generator_starts": len(starts),
        "lost": 0,
        "oldest_token": max(row.get("pipeline/lag_max", 0.0) for row in rows),
    }


def start(config: dict[str, Any], *flags: str) -> subprocess.Popen[bytes]:
    """A real `python -m burnish train`; what it says goes to output.err."""
    output = Path(config["output"])
    file = output.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    with open(output.with_suffix(".err"), "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "burnish", "train", str(file), *flags], stdout=subprocess.DEVNULL, stderr=errors, env=ENV
        )


def generator_of(output: Path) -> psutil.Process | None:
    """The generator process of a run."""
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "burnish.recipes.generator" in words and str(output) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            return process
    return None


def seen(output: Path) -> int:
    """Bytes of the run's journal: it grows with every round drawn and batch finished."""
    path = output / "pipeline" / "journal.jsonl"
    return path.stat().st_size if path.exists() else 0


def wait(process: subprocess.Popen[bytes] | None, reached: Callable[[], bool]) -> None:
    """Until it is so, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while not reached():
        if process is not None and process.poll() is not None:
            return
        if time.monotonic() > end:
            raise Lost("waited in vain")
        time.sleep(0.01)
