"""Two ranks compute what one process computes, fail together, and a run of which one was killed resumes to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ranks_drive
import resume_world
import yaml

from burnish.rl.objectives import presets

pytestmark = pytest.mark.slow
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}
LAUNCH = ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def drive(folder: Path, *tasks: str) -> dict[str, Any]:
    run = subprocess.run([sys.executable, ranks_drive.__file__, str(folder), *tasks], capture_output=True, text=True, timeout=500, env=ENV)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def launch_and_kill(folder: Path) -> dict[str, Any]:
    """A real `accelerate launch -m burnish train` whose second rank is killed from outside after two rows."""
    output, file = folder / "broken", folder / "launched.yaml"
    file.write_text(yaml.safe_dump(ranks_drive.settings(folder, output)))
    launcher = Path(sys.executable).parent / "accelerate"
    command = [str(launcher), *LAUNCH, "--main_process_port", "0", "-m", "burnish", "train", str(file)]
    with open(folder / "launched.err", "wb") as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors, env=ENV)
    rows = output / "metrics.jsonl"
    end = time.monotonic() + 300
    while not (rows.exists() and rows.read_bytes().count(b"\n") >= 3):
        assert process.poll() is None, (folder / "launched.err").read_text()[-3000:]
        assert time.monotonic() < end
        time.sleep(0.005)
    workers = {one.environ().get("RANK"): one for one in psutil.Process(process.pid).children(recursive=True)}
    workers["1"].send_signal(signal.SIGKILL)
    code = process.wait(timeout=120)
    left = [one.pid for one in workers.values() if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return {"code": code, "ranks": sorted(workers), "left": left, "rows": rows.read_bytes().count(b"\n")}


def test_every_preset_has_the_loss_and_gradient_of_one_process_and_errors_end_both(tmp_path: Path) -> None:
    found = drive(tmp_path, "gradients", "failing")
    cases = found["gradients"][0]
    assert {name.partition(" ")[2] for name in cases} >= {*presets.names(), "sft", "grpo, several updates"}
    for name, case in cases.items():
        close = 1e-6 if name.startswith("float32") else 1e-10
        assert case["gradient"] <= close, (name, case)
        assert case["loss"] <= close, (name, case)
        assert case["scale"] > 1e-3, name
        assert case["keys"] == case["metrics"] == [], (name, case)
        assert case["same_on_both"], name
        if "sft" not in name:  # the work was shared
            assert sorted(case["passes"])[0] == 0 if "one rollout" in name else min(case["passes"]) >= 1, (name, case)
    first, second = found["failing"]
    assert first == {"user": "UserError: mend your file (rank 1)", "defect": "RankFailed: rank 1: KeyError: 'lost'", "after": "01"}
    assert second == {"user": "UserError: mend your file", "defect": "KeyError: 'lost'", "after": "01"}


def test_killed_ranks_resume_to_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    resume_world.prepare(tmp_path)
    launched = launch_and_kill(tmp_path)
    assert launched["code"] != 0
    assert launched["ranks"] == ["0", "1"]
    assert launched["left"] == []
    assert 3 <= launched["rows"] < 7
    kills = drive(tmp_path, f"kill:{tmp_path / 'broken'}")["kill"]
    for victim, place in ((1, "share"), (0, "update")):
        killed = kills[f"killed {victim}"]
        assert killed["note"]["place"] == place
        assert killed["signals"][victim] == signal.SIGKILL
        assert killed["signals"][1 - victim] or killed["codes"][1 - victim]
        assert killed["survivor"].startswith("RankLost: "), killed
    assert kills["statuses"] == [0, 0]
    assert kills["differences"] == []
    assert kills["ended"][0] == kills["ended"][1]
