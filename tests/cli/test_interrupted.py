"""Ctrl-C and a full disk, at every moment: one line, exit code 130 or 2, nothing half-written, and a run that goes on afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time

import pytest
from cli_world import EVAL, RL, SFT, is_whole, one_line, snapshot

KEYS = """
import os, signal
keys = {{1: lambda: os.kill(os.getpid(), signal.SIGINT)}}
def score(completions, trainer_state, **kwargs):
    {what}
    return [float(len(text)) for text in completions]
"""


@contextlib.contextmanager
def file_size_limit(limit: int):
    """No file of this process may grow beyond `limit` bytes: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def steps(run) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_ctrl_c_before_the_first_step_leaves_nothing(burnish, here):
    (here / "reward.py").write_text(KEYS.format(what="raise KeyboardInterrupt"))
    before = snapshot(here)
    code, out, err = burnish(RL + " --output deep/er/run")
    assert (code, out, one_line(err)) == (130, "", True)
    assert "interrupted" in err
    assert snapshot(here) == before


def test_ctrl_c_in_a_step_ends_the_step_saves_and_can_be_resumed(burnish, here):
    (here / "reward.py").write_text(KEYS.format(what="keys.pop(trainer_state.global_step, int)()"))
    code, out, err = burnish(f"{RL} --rl.steps 3 --rl.save_steps 100")
    assert (code, out, one_line(err)) == (130, "", True)
    assert "interrupted after step 2" in err
    assert "--resume" in err
    assert is_whole(here / "run")
    assert (here / "run/checkpoint-2").is_dir()
    assert burnish(f"{RL} --rl.steps 3 --rl.save_steps 100 --resume")[0] == 0
    assert steps(here / "run") == [1, 2, 3]


@pytest.mark.parametrize("limit", [100, 4_000, 30_000, 100_000])
@pytest.mark.parametrize("stage", [RL, SFT], ids=["rl", "sft"])
def test_a_full_disk_while_training_leaves_nothing_half_written(stage, limit, burnish, here):
    before = snapshot(here)
    with file_size_limit(limit):
        code, out, err = burnish(stage)
    assert (code, out, one_line(err)) == (2, "", True), err
    assert "cannot write run" in err
    assert "File too large" in err
    assert "choose another folder" in err
    if (here / "run").exists():  # a step was done: what it wrote is whole, and the run goes on
        assert is_whole(here / "run")
        assert not list((here / "run").glob("checkpoint-*"))
        assert burnish(f"{stage} --resume")[0] == 0
        assert (here / "run/report.html").exists()
    else:
        assert snapshot(here) == before


@pytest.mark.parametrize("command", [f"{EVAL} --output result.json", "export {model} out"], ids=["eval", "export"])
def test_a_full_disk_while_writing_a_result_leaves_nothing(command, burnish, here):
    before = snapshot(here)
    with file_size_limit(100):
        code, _, err = burnish(command)
    assert (code, one_line(err)) == (2, True), err
    assert "File too large" in err
    assert snapshot(here) == before


def test_a_disk_that_is_really_full(burnish, here):
    """On a small file system of its own; where this user may not make one, the file-size limits above have to do."""
    (here / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", "disk"], capture_output=True).returncode:
        return
    try:
        code, out, err = burnish(f"{RL} --output disk/run")
        assert (code, out, one_line(err)) == (2, "", True), err
        assert "No space left on device" in err
        assert "free some space" in err
        assert is_whole(here / "disk/run")
        assert not list((here / "disk/run").glob("checkpoint-*"))
    finally:
        subprocess.run(["umount", "disk"], check=True)


def run_process(command: str, models: dict[str, str], **options):
    words = shlex.split(command.replace("{model}", models["model"]))
    env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen([sys.executable, "-m", "burnish", *words], env=env, text=True, stdout=-1, stderr=-1, **options)


def test_a_process_of_its_own_says_one_line_too(models, here):
    (here / "reward.py").write_text(KEYS.format(what="return None"))
    before = snapshot(here)
    process = run_process(RL, models)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, one_line(err)) == (2, "", True), err
    assert "reward 'score' returned None" in err
    assert snapshot(here) == before


def test_ctrl_c_in_a_process_of_its_own(models, here):
    process = run_process(f"{RL} --rl.steps 100000", models)
    deadline = time.monotonic() + 120
    while not (here / "run/metrics.jsonl").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, one_line(err)) == (130, "", True), err
    assert "--resume" in err
    assert is_whole(here / "run")
    assert (here / f"run/checkpoint-{steps(here / 'run')[-1]}").is_dir()
