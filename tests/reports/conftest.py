"""A finished RL run and a finished SFT run."""

import json

import pytest
from report_run_folders import EVIL, RL_CONFIG, group_record, metric_rows, write_rollouts, write_run, write_tokenizer


@pytest.fixture
def rl_run(tmp_path):
    """A finished RL run of 40 steps with rollouts, a tokenizer, a baseline and a summary."""
    path = write_run(tmp_path / "rl", RL_CONFIG, metric_rows(40))
    tokenizer = write_tokenizer(path / "checkpoint-40")
    (path / "checkpoint-40" / "state.json").write_text(json.dumps({"step": 40, "total_steps": 40}))
    for step in (1, 20, 40):
        good = [(f"6*7 = {40 + k}", float(k == 2)) for k in range(4)]
        evil = [(f"{EVIL} é ok", 0.25)] * 4
        write_rollouts(
            path, step, [group_record(tokenizer, "sum-1", "What is 6*7?", good), group_record(tokenizer, "sum-2", EVIL, evil, tool="[7]")]
        )
    (path / "evals").mkdir()
    (path / "evals" / "base.json").write_text(json.dumps({"pass@1": {"mean": 0.05, "low": 0.03, "high": 0.08}, "per_item": [1, 2, 3]}))
    return path


@pytest.fixture
def sft_run(tmp_path):
    """A finished SFT run of 30 steps."""
    rows = [
        {"step": n, "loss": 3.0 / n, "learning_rate": 1e-3, "num_tokens": 500 * n, "time/step": 0.2, "time/forward": 0.1}
        for n in range(1, 31)
    ]
    rows[-1]["eval_loss"] = 0.2
    return write_run(tmp_path / "sft", {"stage": "sft", "model": {"path": ""}, "sft": {"steps": 30}}, rows)
