"""Synthetic run folders for the doctor: a healthy run, written as a real one would be, whose parts a test can spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

STEPS, GROUPS, SIZE, LIMIT = 24, 4, 8, 12


class Written:
    """config, start, data, rows (of metrics.jsonl) and groups (step -> records) of a run; `write` makes the folder."""

    def __init__(self, stage: str = "rl", steps: int = STEPS, seed: int = 0):
        self.random = np.random.default_rng(seed)
        self.stage, self.steps = stage, steps
        self.config: dict[str, Any] = {
            "stage": stage,
            "model": {"dtype": "float32"},
            "rl": {"max_new_tokens": LIMIT, "group_size": SIZE, "minibatches": 1, "epochs": 1, "lag": 0, "learning_rate": 1e-4},
            "sft": {"learning_rate": 1e-3},
            "sampling": {"temperature": 1.0},
        }
        self.start: dict[str, Any] = {
            "prompts": {"train": 100, "eval": 50, "shared": 0, "examples": []},
            "references": {"column": "completion", "counted": 100, "tokens": {"0": 4, "50": 4, "90": 4, "100": 4}},
        }
        self.data: dict[str, Any] = {"train": {"source": "data", "read": 100, "kept": 100, "skipped": [], "notes": {}}}
        self.groups: dict[int, list[dict[str, Any]]] = {}
        if stage == "rl":
            for step in range(1, steps + 1):
                self.groups[step] = [self.group(step, place, 0.4 + 0.3 * step / steps) for place in range(GROUPS)]
            self.rows = [self.row(step) for step in range(1, steps + 1)]
        else:
            self.start["ends"] = {"examples": 100, "share": 1.0, "without": []}
            self.rows = [{"step": step, "loss": 2.0 - 1.5 * step / steps, "update/loss_change": -0.05} for step in range(1, steps + 1)]

    def group(self, step: int, place: int, success: float) -> dict[str, Any]:
        """Eight completions of an item whose answer is four letters; wrong ones are random."""
        answer = "".join(self.random.choice(list("abcdef"), 4))
        texts = [answer if self.random.random() < success else "".join(self.random.choice(list("abcdef"), 5)) for _ in range(SIZE)]
        return record(f"item-{step}-{place}", answer, texts, [float(text == answer) for text in texts])

    def row(self, step: int) -> dict[str, Any]:
        """Metrics that fit the step's groups."""
        scores = [score for group in self.groups[step] for score in group["scores"]]
        rollouts = [rollout for group in self.groups[step] for rollout in group["rollouts"]]
        spreads = [np.std([score["reward"] for score in group["scores"]]) for group in self.groups[step]]
        sizes = [len(rollout["turns"][0]["output_ids"]) for rollout in rollouts]
        entropy = 0.6 - 0.2 * step / self.steps
        return {
            "step": step,
            "reward": float(np.mean([score["reward"] for score in scores])),
            "success": float(np.mean([score["success"] for score in scores])),
            "frac_reward_zero_std": float(np.mean(np.array(spreads) < 1e-12)),
            "completions/clipped_ratio": float(np.mean([rollout["stop"] == "length" for rollout in rollouts])),
            "completions/mean_length": float(np.mean(sizes)),
            "rollouts/drawn": float(len(rollouts)),
            "rollouts/kept": float(len(rollouts)),
            "rollouts/invalid": float(sum(score["invalid"] for score in scores)),
            "num_tokens_step": float(sum(sizes)),
            "entropy": entropy,
            "sampling/surprise": entropy * float(self.random.normal(1, 0.02)),
            "sampling/sampling_logp_difference/mean": 2e-7,
            "sampling/sampling_logp_difference/max": 2e-6,
            "sampling/sampling_logp_difference/slope": 1.0,
            "update/kl": 0.002,
            "loss": 0.001,
            "grad_norm": 0.4,
        }

    def again(self) -> None:
        """The metrics once more, after groups were spoiled; what was set by hand in the rows is kept where groups do not say it."""
        told = ("entropy", "sampling", "update", "loss", "grad_norm")
        self.rows = [self.row(row["step"]) | {key: row[key] for key in row if key.startswith(told)} for row in self.rows]

    def each(self, **values: Any) -> None:
        """Sets metrics: a number, or a function of the step; "/" is written as "__"."""
        for row in self.rows:
            row |= {key.replace("__", "/"): value(row["step"]) if callable(value) else value for key, value in values.items()}

    def write(self, path: Path) -> Path:
        """The folder."""
        (path / "rollouts").mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(json.dumps(self.config))
        (path / "run.json").write_text(json.dumps({"starts": [{"command": "burnish train"}]}))
        (path / "start.json").write_text(json.dumps(self.start))
        (path / "data.json").write_text(json.dumps(self.data))
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        for step, groups in self.groups.items():
            (path / "rollouts" / f"step-{step:06d}.jsonl").write_text("".join(json.dumps(group) + "\n" for group in groups))
        return path


def record(item: str, answer: str, texts: list[str], rewards: list[float], stop: str = "eos") -> dict[str, Any]:
    """A group as the trainer writes it; a completion ends with token 99 where it ended by itself."""
    rollouts, scores = [], []
    for index, (text, reward) in enumerate(zip(texts, rewards)):
        ids = [ord(letter) for letter in text] + ([99] if stop == "eos" else [])
        rollouts.append({"item_id": item, "index": index, "stop": stop, "turns": [{"output_ids": ids, "injected": [False] * len(ids)}]})
        scores.append({"reward": reward, "success": float(reward >= 1), "invalid": False, "extras": {}})
    return {
        "item": {"id": item, "prompt": [1, 2], "columns": {"completion": answer, "answer": answer}},
        "rollouts": rollouts,
        "scores": scores,
        "kept": [True] * len(texts),
        "texts": [f"{text}<|eos|>" if stop == "eos" else text for text in texts],
    }
