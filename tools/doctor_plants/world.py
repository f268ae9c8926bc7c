"""The world of the doctor's trials: tasks, tiny base models made once, and the settings of a healthy short run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.runs import atomic, checkpoints
from burnish.runs.config import build
from burnish.tasks.demonstrations import careless
from burnish.tasks.graph_path import GraphPath
from burnish.tasks.sort import Sort
from burnish.tasks.strings import Strings
from burnish.tasks.task import Problem

TASKS = {
    "sort": [Sort(length=length) for length in (3, 4, 5, 6)],
    "strings": [Strings(length=length) for length in (3, 4, 5)],
    "reverse": [Strings(operation="reverse", length=length) for length in (3, 4, 5)],
    "dedupe": [Strings(operation="dedupe", length=length) for length in (5, 6, 7, 8)],
    "graph_path": [GraphPath(nodes=nodes, extra_edges=0) for nodes in (4, 5, 6)],
}
BASE_STEPS = {
    "reverse": {"plain": 500, "poor": 170, "good": 900},
    "dedupe": {"plain": 500, "poor": 160, "good": 900},
    "graph_path": {"plain": 400, "poor": 160, "good": 900},
}
"""Steps of a base model where the default (300; poor 60, good 700) does not teach it its task; chosen by the base's own success alone."""
RL_RATE, SFT_RATE, TUNE_RATE = 3e-4, 3e-3, 1e-3
"""Learning rates that do well: of RL, of fine-tuning an untrained model, and of fine-tuning one further."""
RL_SETTINGS: dict[str, dict[str, Any]] = {"graph_path": {"steps": 60}}
"""Where the settings of RL above hardly teach a task; chosen by the success of a healthy run alone, before anything was diagnosed."""
LIMIT = 12
ROLES = "user assistant\n"


class World:
    """One task under a folder of its own; base models and data are made when first asked for and kept."""

    def __init__(self, folder: Path, task: str):
        self.folder, self.task = folder / task, task
        self.folder.mkdir(parents=True, exist_ok=True)

    def problems(self, n: int, split: str = "train", seed: int = 0) -> list[Problem]:
        """n problems, the task's settings in turn."""
        settings = TASKS[self.task]
        share = [-(-n // len(settings))] * len(settings)
        lists = [setting.items(size, seed, split) for setting, size in zip(settings, share)]
        return [problem for row in zip(*lists) for problem in row][:n]

    def rows(self, n: int, split: str = "train", chat: bool = False, slips: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
        """Problems as rows; chat: as messages. slips: share of careless demonstrations."""
        found = [problem.row() for problem in careless(self.problems(n, split, seed), slips, seed)]
        for row, problem in zip(found, self.problems(n, split, seed)):
            row["answer"] = problem.answer
        return [as_chat(row) for row in found] if chat else found

    def easiest(self, n: int, split: str = "train") -> list[dict[str, Any]]:
        """Rows of the shortest problems, of the operations that are learned first."""
        rows = self.rows(8 * n, split)
        short = min(len(row["answer"]) for row in rows)
        return [row for row in rows if len(row["answer"]) == short and not row["prompt"].startswith(("cae", "rot"))][:n]

    def tokenizer(self, chat: bool) -> Any:
        """Characters of the task."""
        seen = {letter for problem in self.problems(3000) for letter in problem.prompt + problem.answer}
        return tokenizer.characters(sorted(seen | set(ROLES)), "chatml" if chat else None)

    def base(self, name: str = "plain") -> Path:
        """A folder with a base model: "plain", "chat", "raw", "raw-chat" (untrained), "poor", "good" (trained less and longer), "mute"
        (no end of sequence in its loss), "runon-NN" (NN % of its examples go on with the next problem and have no end in their loss)."""
        target = self.folder / "bases" / name
        with self._alone(f"base-{name}"):
            if not target.exists():
                self._make_base(name, target)
        return target

    def _make_base(self, name: str, target: Path) -> None:
        chat = name in ("chat", "raw-chat")
        raw = self.folder / "bases" / ("raw-chat" if chat else "raw")
        if not raw.exists():
            vocabulary = self.tokenizer(chat)
            save_model(tiny.make("qwen3", vocabulary, hidden=64, layers=2, heads=4, kv_heads=2, max_length=96), vocabulary, raw)
        if name in ("raw", "raw-chat"):
            return
        known = {"plain": 300, "poor": 60, "good": 700} | BASE_STEPS.get(self.task, {})
        steps, slips = known.get(name, known["plain"]), 0.0 if name == "good" else 0.5
        from doctor_plants.faults import bucket, without_ends  # here, for that module imports this one

        rows = self.rows(6000, chat=chat, slips=slips)
        config = self.sft(f"make-{name}", {"sft": {"steps": steps, "batch_size": 64}, "model": {"path": str(raw)}}, where=target.parent)
        share = int(name.split("-")[1]) if name.startswith("runon-") else 0
        for place, row in enumerate(rows):
            if bucket(f"{place}") < share:
                row["completion"] += "".join(one["prompt"] + one["answer"] for one in rows[place - 2 : place])
        with without_ends(1.0 if name == "mute" else share / 100):
            run = train(config, data=rows)["run"]
        os.rename(checkpoints.newest(run.path), target)

    def file(self, name: str, rows: list[dict[str, Any]]) -> str:
        """A JSONL file of rows."""
        path = self.folder / "data" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    @property
    def verifier(self) -> dict[str, str]:
        """The task's own verifier as a reward (two of the tasks here are one operation of `strings`)."""
        return {"name": "task", "task": TASKS[self.task][0].name}

    def rl(self, name: str, changes: dict[str, Any], where: Path | None = None) -> TrainConfig:
        """A healthy RL run of a few seconds with some fields changed."""
        rl = {
            "steps": 25,
            "learning_rate": RL_RATE,
            "prompts_per_step": 12,
            "group_size": 8,
            "max_new_tokens": LIMIT,
            "objective": "dr_grpo",
            "rewards": [self.verifier],
            "slots": 96,
            "save_steps": None,
            "save_total_limit": 1,
        } | RL_SETTINGS.get(self.task, {})
        fields: dict[str, Any] = {"stage": "rl", "rl": rl, "eval": {"limit": 60, "steps": 10, "metric_for_best": None}}
        return self._config(name, fields, changes, where)

    def sft(self, name: str, changes: dict[str, Any], where: Path | None = None) -> TrainConfig:
        """A healthy fine-tuning run of a few seconds with some fields changed."""
        sft = {"steps": 120, "batch_size": 32, "learning_rate": SFT_RATE, "save_total_limit": 1}
        return self._config(name, {"stage": "sft", "sft": sft}, changes, where)

    def _config(self, name: str, fields: dict[str, Any], changes: dict[str, Any], where: Path | None) -> TrainConfig:
        fields = merged({"output": str((where or self.folder / "runs") / name), "threads": 1, **fields}, changes)
        if not fields["eval"].get("path") if "eval" in fields else False:
            fields.pop("eval")
        return build(TrainConfig, fields)

    @contextlib.contextmanager
    def _alone(self, name: str):
        """One process at a time."""
        (self.folder / "bases").mkdir(exist_ok=True)
        with open(self.folder / "bases" / f".{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def as_chat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with prompt and completion as messages."""
    prompt = [{"role": "user", "content": row["prompt"]}]
    return {**row, "prompt": prompt, "completion": [{"role": "assistant", "content": row["completion"]}]}


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, the second's values winning."""
    out = dict(first)
    for key, value in second.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) and "name" not in value else value
    return out
