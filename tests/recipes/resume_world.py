"""Small SFT and RL runs whose every end state is compared: a model and data made on the spot, configs, and `outcome` of a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REWARD = '''
"""A reward with a life: its state drifts with every call, so that a resumed run without it would give other numbers."""

from burnish.records import Score


class Graded:
    name = "graded"

    def __init__(self):
        self.calls, self.mean = 0, 0.0

    def __call__(self, group, measured):
        scores = []
        for rollout in group.rollouts:
            ids = rollout.output_ids
            low = sum(token < 128 for token in ids) / max(1, len(ids))
            self.calls += 1
            self.mean += 0.1 * (low - self.mean)
            scores.append(Score(reward=low + 0.25 * self.mean, success=float(sum(ids) % 3 == 0)))
        return scores

    def state_dict(self):
        return {"calls": self.calls, "mean": self.mean}

    def load_state_dict(self, state):
        self.calls, self.mean = state["calls"], state["mean"]
'''


def prepare(folder: Path) -> None:
    """Writes model/, train.jsonl and reward.py into `folder`. Needs torch: not to be called in a process that forks."""
    from burnish.models import tiny, tokenizer
    from burnish.models.save import save_model
    from burnish.tasks.sort import Sort

    words = tokenizer.byte_level()
    save_model(tiny.make("qwen3", words, hidden=32, layers=2, max_length=96, seed=5), words, folder / "model")
    problems = Sort(symbols="digits", difficulty=2).items(48, seed=1)
    rows = [
        {"id": one.id, "prompt": "sort " * (n % 4) + one.prompt, "completion": one.answer, "answer": one.answer}
        for n, one in enumerate(problems)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reward.py").write_text(REWARD)


def settings(folder: Path, name: str, output: Path | None = None) -> dict[str, Any]:
    """The config of a scenario: "sft", "sft-lora", "rl-lag0", "rl-lag2" or "rl-fast"."""
    out: dict[str, Any] = {
        "stage": name.split("-")[0],
        "output": str(output or folder / name),
        "seed": 3,
        "threads": 1,
        "model": {"path": str(folder / "model")},
        "data": {"path": str(folder / "train.jsonl"), "format": "prompt_completion"},
        "eval": {"rows": 6},
    }
    if out["stage"] == "sft":
        out["sft"] = {
            "steps": 14, "batch_size": 4, "learning_rate": 0.02, "average": 0.7, "eval_steps": 4, "save_steps": 3,
            "save_total_limit": 2, "micro_tokens": 48, "metric_for_best": "eval_mean_token_accuracy",
        }  # fmt: skip
        if name == "sft-lora":
            out["model"]["lora"] = {"rank": 4}
        return out
    out["eval"] |= {"steps": 3}
    out["rl"] = {
        "steps": 8, "learning_rate": 0.01, "schedule": "linear", "prompts_per_step": 4, "group_size": 3, "max_new_tokens": 10,
        "curriculum": {"name": "difficulty_window", "low": 0.2, "high": 0.5, "min_count": 3, "explore": 0.3},
        "rewards": [f"{folder / 'reward.py'}:Graded"], "objective": "grpo", "beta": 0.02, "minibatches": 2,
        "lag": 0 if name == "rl-lag0" else 2, "save_steps": 2, "save_total_limit": 2,
    }  # fmt: skip
    if name == "rl-fast":
        refill = {"name": "refill", "filter": "zero_variance", "prompts": 4, "rounds": 2}
        out["rl"] |= {"engine_mode": "fast", "filters": [refill], "slots": 5, "epochs": 2, "rewards": ["sort", *out["rl"]["rewards"]]}
        out["sampling"] = {"temperature": 0.9, "stop": list("abcdefghij")}
    return out


def kept(folder: Path) -> dict[str, Any]:
    """The checkpoints of a run folder, and the step of the best evaluation by its metrics."""
    from burnish.runs.folder import Run

    run = Run(folder)
    if run.config["stage"] == "sft":
        name, sign = run.config["sft"]["metric_for_best"], 1 if "accuracy" in run.config["sft"]["metric_for_best"] else -1
    else:
        name, sign = run.config["eval"]["metric_for_best"], 1
    found = [(sign * row[name], -row["step"]) for row in run.metrics() if name in row and row["step"] > 0]
    return {"steps": sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), "best": -max(found)[1]}


def stopped_well(folder: Path) -> bool:
    """After Ctrl-C: the newest checkpoint is that of the last row, and nothing unfinished lies about."""
    from burnish.runs import checkpoints
    from burnish.runs.folder import Run

    newest = checkpoints.newest(folder)
    return newest is not None and newest.name == f"checkpoint-{Run(folder).metrics()[-1]['step']}" and not list(folder.glob("tmp-*"))


def outcome(folder: Path, last_only: bool = False) -> dict[str, Any]:
    """Everything that must be equal to the bit: metrics, the files of all checkpoints, rollouts, and which files there are.

    last_only: of the checkpoints only that of the last step.

    Raises AssertionError where metrics.jsonl is torn or holds a step twice.
    """
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    rows = [json.loads(line) for line in text.splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == list(range(steps[0], steps[0] + len(steps))), steps
    exact = [[(key, repr(value)) for key, value in row.items() if not key.startswith(("time/", "memory/"))] for row in rows]
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if last_only:
        last = f"checkpoint-{steps[-1]}/"
        files = {name: path for name, path in files.items() if name.startswith(last) or not name.startswith("checkpoint-")}
    bits = {name: path.read_bytes() for name, path in files.items() if name.startswith(("checkpoint-", "rollouts"))}
    loose = {"run.json", "metrics.jsonl", "config.yaml", "report.html", "train.yaml"}
    return {"metrics": exact, "names": sorted(set(files) - loose), "files": bits}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Where two outcomes differ, in words."""
    out = [f"file only in one: {name}" for name in sorted(set(found["names"]) ^ set(wanted["names"]))]
    out += [f"other bits: {name}" for name in found["files"] if found["files"][name] != wanted["files"].get(name)]
    if len(found["metrics"]) != len(wanted["metrics"]):
        return [*out, f"{len(found['metrics'])} rows of metrics, not {len(wanted['metrics'])}"]
    for mine, theirs in zip(found["metrics"], wanted["metrics"]):
        out += [f"metrics {mine[0][1]}: {a} != {b}" for a, b in zip(mine, theirs) if a != b]
        out += [f"metrics {mine[0][1]}: other columns"] if len(mine) != len(theirs) else []
    return out
