"""Training runs that are killed, interrupted and resumed end in the bits of the unbroken run: weights, optimiser, rollouts, metrics."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import resume_drive
import resume_world
import yaml

from burnish.cli import main

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
FAST = {"rl-lag2": "start:4 checkpoint generation metrics"}
SLOW = [
    {"rl-lag0": "checkpoint generation rollouts evaluation generation checkpoint pruning update renamed"},
    {"rl-lag2": "generation checkpoint generation", "rl-fast": "interrupt checkpoint metrics:2 generation start"},
    {"sft": "checkpoint evaluation checkpoint pruning checkpoint update", "sft-lora": "interrupt metrics start checkpoint"},
]


def test_the_plans_hold_enough_kills_of_every_kind() -> None:
    places = [place.partition(":")[0] for plan in (FAST, *SLOW) for text in plan.values() for place in text.split()]
    kills = [place for place in places if place != "interrupt"]
    assert len(kills) >= 20
    assert kills.count("checkpoint") >= 5
    assert kills.count("generation") >= 5
    assert set(places) == set(resume_drive.FURTHEST)


def test_a_lagging_rl_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    drive(tmp_path, FAST, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("plan", SLOW, ids=lambda plan: "+".join(plan))
def test_killed_at_chosen_places_ends_in_the_same_bits(tmp_path: Path, plan: dict[str, str]) -> None:
    drive(tmp_path, plan, seed=2)


def drive(folder: Path, plan: dict[str, str], seed: int) -> None:
    """Runs the plan in a process of its own, which compares the bits; checks where the kills fell and which checkpoints were kept."""
    resume_world.prepare(folder)
    words = [f"{name}={text.replace(' ', ',')}" for name, text in plan.items()]
    script = [sys.executable, resume_drive.__file__, str(folder), str(seed), *words]
    found = subprocess.run(script, capture_output=True, text=True, timeout=400, env=ENV)
    assert found.returncode == 0, found.stderr[-3000:]
    results = json.loads(found.stdout.splitlines()[-1])
    for name, text in plan.items():
        kills = results[name]["kills"]
        assert [kill["place"] for kill in kills] == [place.partition(":")[0] for place in text.split()]
        for kill in kills:  # a checkpoint that was being written lies there unfinished
            if kill["place"] == "checkpoint":
                assert any(entry.startswith("tmp-checkpoint-") for entry in kill["leftover"]), kill
        last, best = results[name]["kept"]["steps"][-1], results[name]["kept"]["best"]
        assert results[name]["kept"]["steps"] == (sorted({best, last}) if best != last else results[name]["kept"]["steps"][-2:])


@pytest.mark.slow
def test_the_command_line_killed_from_outside(tmp_path: Path) -> None:
    """SIGKILL at random times after the first rows, and in the middle of a checkpoint; no trap in the process."""
    dice = random.Random(4)
    resume_world.prepare(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(tmp_path, "rl-lag0", whole)
    first = start(tmp_path, "rl-lag0", broken)
    wait_until(first, lambda: rows(broken) >= 2)
    time.sleep(dice.uniform(0, 0.2))
    kill(first)
    second = start(tmp_path, "rl-lag0", broken, "--resume")
    wait_until(second, lambda: list(broken.glob("tmp-checkpoint-*")))
    time.sleep(dice.uniform(0, 0.005))
    kill(second)
    third = start(tmp_path, "rl-lag0", broken, "--resume")
    assert ended(third) == 0
    assert ended(unbroken) == 0
    wanted = resume_world.outcome(whole)
    assert resume_world.differences(resume_world.outcome(broken), wanted) == []


@pytest.mark.slow
def test_ctrl_c_then_a_changed_config_then_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resume_world.prepare(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    unbroken = start(tmp_path, "sft", whole, "--sft.steps", "40")
    first = start(tmp_path, "sft", broken, "--sft.steps", "40")
    wait_until(first, lambda: rows(broken) >= 5)
    first.send_signal(signal.SIGINT)
    assert ended(first) == 130
    said = broken.with_suffix(".err").read_text()
    assert said.splitlines()[-1].startswith("burnish: interrupted")
    assert "Traceback" not in said
    assert resume_world.stopped_well(broken)
    before = resume_world.outcome(broken)
    words = ["train", str(tmp_path / "sft-broken.yaml"), "--sft.steps", "40"]
    assert main([*words, "--resume", "--sft.learning_rate", "0.01"]) == 2
    assert "(sft.learning_rate: 0.02 -> 0.01)" in capsys.readouterr().err
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert resume_world.outcome(broken) == before
    assert ended(start(tmp_path, "sft", broken, "--sft.steps", "40", "--resume", "--sft.save_total_limit", "3")) == 0
    assert ended(unbroken) == 0
    wanted = resume_world.outcome(whole, last_only=True)
    assert resume_world.differences(resume_world.outcome(broken, last_only=True), wanted) == []


def start(folder: Path, scenario: str, output: Path, *flags: str) -> subprocess.Popen[bytes]:
    """A real `python -m burnish train`; what it says goes to output.err."""
    file = folder / f"{scenario}-{output.name}.yaml"
    file.write_text(yaml.safe_dump(resume_world.settings(folder, scenario, output)))
    with open(output.with_suffix(".err"), "wb") as errors:
        command = [sys.executable, "-m", "burnish", "train", str(file), *flags]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=ENV)


def rows(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(process: subprocess.Popen[bytes], reached: Any) -> None:
    end = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.001)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.wait() == -signal.SIGKILL


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=240)
