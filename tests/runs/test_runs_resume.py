from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_loop

from burnish.runs import atomic, checkpoints
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.loop import Loop

SCRIPT = Path(toy_loop.__file__)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    loop, result = toy_loop.toy(folder)
    return {"folder": folder, "loop": loop, "result": result, "outcome": toy_loop.outcome(folder)}


def test_two_optimisers_at_five_to_one(unbroken: dict[str, Any]) -> None:
    rows = Run(unbroken["folder"]).metrics()
    assert unbroken["loop"].moves == sum(1 + step % 2 for step in range(1, 41)) == 60
    moved = dict.fromkeys("ab", 0)
    rule_says = [{"a"} if i % 6 < 5 else {"b"} for i in range(60)]
    position = 0
    for row in rows:
        now = rule_says[position : position + 1 + row["step"] % 2]
        position += len(now)
        for name in "ab":
            assert (f"grad_norm/{name}" in row) == any(name in names for names in now)
            moved[name] += sum(name in names for names in now)
    assert moved == {"a": 50, "b": 10}
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert [row["eval/step"] for row in rows if "eval/step" in row] == list(range(4, 41, 4))


def test_killed_at_random_moments_ends_in_the_same_bits(unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "drive", str(folder), "12", "1"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    counts = json.loads(found.stdout.splitlines()[-1])
    assert counts["kills"] == 12
    assert counts["in_checkpoint"] >= 3
    _assert_same(folder, unbroken["outcome"])


@pytest.mark.parametrize("at", [0, 4, 9, 23])
def test_stopped_at_each_kind_of_file_operation(unbroken: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    class Killed(BaseException):
        pass

    calls = 0

    def dying(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 60 + at:
            raise Killed
        sync(path)

    sync = atomic.sync
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "sync", dying)
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a killed process cleans up nothing
        with pytest.raises(Killed):
            toy_loop.toy(folder)
    toy_loop.toy(folder, resume=True)
    _assert_same(folder, unbroken["outcome"])


def _assert_same(folder: Path, wanted: dict[str, Any]) -> None:
    found = toy_loop.outcome(folder)
    for key in wanted:
        assert found[key] == wanted[key], key


def test_newest_and_best_are_kept(unbroken: dict[str, Any]) -> None:
    result, folder = unbroken["result"], unbroken["folder"]
    scores = {row["step"]: row["eval/score"] for row in Run(folder).metrics() if "eval/score" in row}
    best = max(scores, key=lambda step: scores[step])
    assert (result.best_step, result.best_value) == (best, scores[best])
    assert best not in (39, 40)
    assert checkpoints.steps(folder) == sorted({best, 40})
    assert checkpoints.best(folder) == folder / f"checkpoint-{best}"
    assert checkpoints.newest(folder) == folder / "checkpoint-40"


def test_a_finished_run_resumes_to_itself(unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken["folder"], folder)
    (folder / "tmp-checkpoint-41-99").mkdir()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 41, "lo')
    _, result = toy_loop.toy(folder, resume=True)
    assert result == unbroken["result"]
    _assert_same(folder, unbroken["outcome"])


def test_a_broken_checkpoint_is_passed_over(unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken["folder"], folder)
    with open(folder / "checkpoint-40" / "state.safetensors", "r+b") as file:
        file.truncate(100)
    assert checkpoints.newest(folder) == folder / f"checkpoint-{unbroken['result'].best_step}"
    toy_loop.toy(folder, resume=True)
    _assert_same(folder, unbroken["outcome"])


def test_changed_config_is_refused_with_the_difference(unbroken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken["folder"], folder)
    with pytest.raises(UserError, match=r"another config \(lr: 0.01 -> 0.02\)"):
        toy_loop.toy(folder, resume=True, config={**toy_loop.CONFIG, "lr": 0.02})
    with pytest.raises(UserError, match="holds a run already"):
        toy_loop.toy(folder)
    with pytest.raises(UserError, match="written under another config"):
        toy_loop.toy(folder, resume=True, total_steps=50)
    toy_loop.toy(folder, resume=True, config={**toy_loop.CONFIG, "save_total_limit": 5})


def test_early_stopping_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"patience": 2, "eval_steps": 2, "save_steps": 5}
    _, result = toy_loop.toy(tmp_path / "a", **options)
    assert result.stopped == "patience"
    assert result.step == result.best_step + 4
    step = result.best_step + 2  # one evaluation without a new best lies behind
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_log", _dying_after(step + 1, Loop._log))
        with pytest.raises(RuntimeError, match="stop here"):
            toy_loop.toy(tmp_path / "b", **{**options, "save_steps": 1})
    assert checkpoints.newest(tmp_path / "b") == tmp_path / "b" / f"checkpoint-{step}"
    assert toy_loop.toy(tmp_path / "b", resume=True, **options)[1] == result
    assert toy_loop.toy(tmp_path / "b", resume=True, **options)[1] == result
    a, b = (toy_loop.outcome(tmp_path / name) for name in "ab")
    assert a["rows"] == b["rows"]
    assert a["states"][result.step] == b["states"][result.step]


def _dying_after(step: int, log: Any) -> Any:
    def dying(self: Loop, now: int, row: Any) -> None:
        if now == step:
            raise RuntimeError("stop here")
        log(self, now, row)

    return dying


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_the_step_end_and_writes_a_checkpoint(unbroken: dict[str, Any], tmp_path: Path, number: int) -> None:
    class Sender:
        def log(self, step: int, row: Any) -> None:
            if step == 7:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        toy_loop.toy(tmp_path / "run", trackers=[Sender()])
    assert signal.getsignal(number) == before
    assert checkpoints.newest(tmp_path / "run") == tmp_path / "run" / "checkpoint-7"
    toy_loop.toy(tmp_path / "run", resume=True)
    _assert_same(tmp_path / "run", unbroken["outcome"])


def test_stop_check_ends_early_and_can_go_on(unbroken: dict[str, Any], tmp_path: Path) -> None:
    answers = iter([False] * 9 + [True])
    _, result = toy_loop.toy(tmp_path / "run", stop_check=lambda: next(answers))
    assert (result.step, result.stopped) == (10, "stop_check")
    toy_loop.toy(tmp_path / "run", resume=True)
    _assert_same(tmp_path / "run", unbroken["outcome"])


def test_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """File-size limits in children: rows that do not fit, a state.safetensors that does not, a model file that does not."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "full", str(tmp_path)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    messages = json.loads(found.stdout.splitlines()[-1])
    for (name, message), file in zip(messages.items(), ("metrics.jsonl", "checkpoint-2", "checkpoint-2")):
        folder = tmp_path / name
        remedy = "raise the file-size limit (ulimit -f) or choose another folder"
        assert message == f"UserError: cannot write {folder / file}: File too large; {remedy}"
        names = {path.name for path in folder.iterdir()}
        assert names <= {"config.yaml", "run.json", "metrics.jsonl", "rollouts"}
        assert (folder / "metrics.jsonl").read_text().endswith("}\n")
        assert Run(folder).metrics()


def test_resumed_optimiser_keeps_dtype_and_counters(unbroken: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(unbroken["folder"], tmp_path / "run")
    loop, _ = toy_loop.toy(tmp_path / "run", resume=True)
    for name, group in unbroken["loop"].groups.items():
        twin = loop.groups[name]
        assert twin.moves == group.moves
        for p, q in zip(group.params, twin.params):
            assert torch.equal(p, q)
            for key, value in group.optimizer.state[p].items():
                other = twin.optimizer.state[q][key]
                assert other.dtype == value.dtype
                assert torch.equal(other, value), key
    adam = unbroken["loop"].groups["a"].optimizer
    # 17 moves of a are undone by the reset at step 17: the counter goes back with the weights
    assert {float(state["step"]) for state in adam.state.values()} == {float(unbroken["loop"].groups["a"].moves)}
    assert unbroken["loop"].groups["a"].moves < 50


def test_global_generators_do_not_depend_on_the_eval(tmp_path: Path) -> None:
    toy_loop.toy(tmp_path / "a", metric_for_best=None, eval_steps=40)
    toy_loop.toy(tmp_path / "b", metric_for_best=None, eval_steps=3, save_steps=7, eval_first=True)
    rows = [[(row["step"], row["loss"]) for row in Run(tmp_path / name).metrics() if row["step"]] for name in "ab"]
    assert rows[0] == rows[1]
    assert Run(tmp_path / "b").metrics()[0]["step"] == 0
