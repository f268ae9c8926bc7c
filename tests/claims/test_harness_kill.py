"""Kills: Ctrl-C and kill -9 of a verify leave no process and no torn file behind; two verifies at once share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy_claims


def start(folder, *more):
    """`burnish verify` of the toy at smoke size."""
    command = [sys.executable, "-m", "burnish", "verify", str(folder / "toy.py"), "--smoke", "--output", str(folder / "out"), *more]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )  # fmt: skip


def hear_interrupts():
    """A shell that started pytest in the background made it, and its children, deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(found, what, seconds=90):
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.1)


def pids(folder):
    return [int(line.split()[1]) for line in toy_claims.notes(folder) if line.startswith("pid ")]


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_verify_leaves_whole_files_and_no_process_and_goes_on(tmp_path, number):
    toy_claims.write(tmp_path, other={"do": "sleep"})
    first = start(tmp_path)
    wait_until(lambda: len(pids(tmp_path)) == 2, "the sleeping arm")
    wait_until(lambda: (tmp_path / "out/toy/toy.1/main-seed0.json").exists(), "the other arms")
    os.kill(first.pid, number)
    _, err = first.communicate(timeout=60)
    wait_until(lambda: not any(alive(pid) for pid in pids(tmp_path)), "the processes to end", 20)
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert err.startswith("burnish: interrupted")
    results = tmp_path / "out" / "toy" / "toy.1"
    assert sorted(path.name for path in results.glob("*")) == ["grid", "main-seed0.json"]
    assert not list(results.rglob("tmp-*"))
    ran = [line for line in toy_claims.notes(tmp_path) if not line.startswith("pid")]

    toy_claims.write(tmp_path)
    second = start(tmp_path, "--json")
    out, err = second.communicate(timeout=120)
    assert (second.returncode, err) == (0, "")
    assert json.loads(out)[0]["verdict"]["status"] == "reproduced"
    again = [line for line in toy_claims.notes(tmp_path) if not line.startswith("pid")]
    assert again[len(ran) :] == ["other 0"], "what was done is not run again"


@pytest.mark.slow
def test_two_verifies_at_once_share_the_work(tmp_path):
    toy_claims.write(tmp_path)
    both = [start(tmp_path, "--json"), start(tmp_path, "--json")]
    for one in both:
        out, err = one.communicate(timeout=180)
        assert (one.returncode, err) == (0, "")
        assert json.loads(out)[0]["done"] == 4
    assert sorted(toy_claims.notes(tmp_path)) == sorted(["grid/1 9", "grid/2 9", "main 0", "other 0", "shared 0", "shared 9"])
