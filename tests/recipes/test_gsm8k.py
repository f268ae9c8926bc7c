"""Real data: fine-tuning, then GRPO, on GSM8K's training file, with the example configs of docs/examples and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import resume_world

from burnish.runs.folder import Run

DATA = os.environ.get("BURNISH_DATA")
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
ROWS, HELD_OUT = 7473, 500
SFT = ["--sft.steps", "120", "--sft.eval_steps", "120", "--sft.save_steps", "60"]
SIZES = {"steps": 6, "prompts_per_step": 6, "group_size": 6, "max_new_tokens": 96, "save_steps": 2}
GRPO = [word for name, value in SIZES.items() for word in (f"--rl.{name}", str(value))] + ["--eval.steps", "6", "--eval.limit", "100"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA, reason="BURNISH_DATA is not set")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, the model and the finished fine-tuning run, as the examples lay it out."""
    folder = tmp_path_factory.mktemp("gsm8k")
    (folder / "data").mkdir()
    (folder / "data" / "gsm8k_train.jsonl.gz").symlink_to(Path(DATA or "").resolve() / "math" / "gsm8k_train.jsonl.gz")
    script = [sys.executable, EXAMPLES / "gsm8k_model.py", "data/gsm8k_train.jsonl.gz", "models/gsm8k"]
    made = subprocess.run(script, cwd=folder, env=ENV, capture_output=True, text=True, check=True)
    parameters = int(made.stdout.split()[0].replace(",", ""))
    print(f"\n{parameters:,} parameters")
    assert 1_000_000 < parameters < 10_000_000
    finish(start(folder, "gsm8k_sft.yaml", "sft", *SFT), folder / "sft.log")
    return folder


def test_fine_tuning_lowers_the_held_out_loss(world: Path) -> None:
    account(world / "sft")
    rows = Run(world / "sft").metrics()
    before, after = rows[0]["eval_loss"], rows[-1]["eval_loss"]
    print(f"held-out loss {before:.3f} -> {after:.3f} nats a token, {seconds(rows):.0f} s")
    assert rows[-1]["step"] == 120
    assert before - after >= 1.0


def test_grpo_with_a_graded_reward_killed_and_resumed(world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = ["--model.path", "sft/checkpoint-120"]
    finish(start(world, "gsm8k_grpo.yaml", "whole", *model, *GRPO), world / "whole.log")
    first = start(world, "gsm8k_grpo.yaml", "broken", *model, *GRPO)
    end = time.monotonic() + 600
    while not (world / "broken" / "rollouts" / "step-000003.jsonl").exists():
        assert first.poll() is None, (world / "broken.log").read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    done = len(Run(world / "broken").metrics())
    finish(start(world, "gsm8k_grpo.yaml", "broken", *model, *GRPO, "--resume"), world / "broken.log")
    whole = resume_world.outcome(world / "whole")
    assert resume_world.differences(resume_world.outcome(world / "broken"), whole) == []
    account(world / "whole")
    rows = Run(world / "whole").metrics()
    varied = 1 - sum(row["frac_reward_zero_std"] for row in rows[1:]) / len(rows[1:])
    with capfd.disabled():
        print(f"\nkilled after {done} rows of metrics; groups with variance {varied:.1%}; {seconds(rows):.0f} s")
        for name, row in (("before", rows[0]), ("after", rows[-1])):
            print(f"mean reward {name} {row['eval/reward']:.4f} [{row['eval/reward_low']:.4f}, {row['eval/reward_high']:.4f}]")
    assert [row["step"] for row in rows] == list(range(7))
    assert varied > 0.2
    for row in (rows[0], rows[-1]):
        assert row["eval/reward_low"] < row["eval/reward"] < row["eval/reward_high"]
    said = (world / "whole.log").read_text()  # the command line says so too
    assert f"groups with variance: {100 * varied:.1f} %" in said, said
    for row in (rows[0], rows[-1]):
        assert f"{row['eval/reward']:.3f} [{row['eval/reward_low']:.3f}, {row['eval/reward_high']:.3f}]" in said, said


def account(folder: Path) -> None:
    """Every row of the file is used, held out or reported as left out."""
    found: dict[str, Any] = json.loads((folder / "data.json").read_text())
    for report in found.values():
        assert report["read"] == report["kept"] + len(report["skipped"])
        assert all(one["where"] and one["reason"] for one in report["skipped"])
    assert found["rows"]["read"] == ROWS
    assert found["train"]["read"] == found["rows"]["kept"] - HELD_OUT
    left_out = len(found["rows"]["skipped"]) + len(found["train"]["skipped"])
    assert found["train"]["kept"] + HELD_OUT + left_out == ROWS
    print(f"{folder.name}: {found['train']['kept']} used, {HELD_OUT} held out, {left_out} left out")
    beyond = found["rows"]["notes"].get("held out but beyond eval.limit", 0)
    assert found["rows"]["notes"]["held out"] == found["eval"]["kept"] + beyond == HELD_OUT
    assert beyond == (0 if folder.name == "sft" else 400)


def start(folder: Path, example: str, output: str, *flags: str) -> subprocess.Popen[bytes]:
    """`burnish train EXAMPLE --output OUTPUT ...` in `folder`; what it says goes to OUTPUT.log."""
    command = [sys.executable, "-m", "burnish", "train", str(EXAMPLES / example), "--output", output, "--threads", "1", *flags]
    with open(folder / f"{output}.log", "wb") as log:
        return subprocess.Popen(command, cwd=folder, env=ENV, stdout=log, stderr=log)


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    assert process.wait(timeout=900) == 0, log.read_text()[-3000:]


def seconds(rows: list[dict[str, Any]]) -> float:
    return sum(row.get("time/step", 0.0) + row.get("time/eval", 0.0) for row in rows)
