"""Run folders made by hand, written as a run writes them."""

import json
import math
import pathlib
import random

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import group_to_dict

EVIL = "<script>alert(1)</script>"
SPECIAL = "<|eos|>"


def write_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """A byte-level tokenizer with one special token, id 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={SPECIAL: 0, **{char: index + 1 for index, char in enumerate(alphabet)}}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens([SPECIAL])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_run(path: pathlib.Path, config: dict, rows: list[dict], **files: str) -> pathlib.Path:
    """config.yaml, run.json, metrics.jsonl and whatever else is given by name."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    start = {
        "command": ["burnish", "train", "--config", "my config.yaml"],
        "time": "2026-01-02T03:04:05+00:00",
        "versions": {"burnish": "0.1.0", "torch": "2.13.0"},
        "commit": "0123abc",
        "threads": 1,
        "devices": ["cpu"],
    }
    (path / "run.json").write_text(json.dumps({"starts": [start]}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def metric_rows(n: int, every: int = 10) -> list[dict]:
    """n steps of RL after an evaluation at step 0."""
    draw = random.Random(0)
    rows: list[dict] = [{"step": 0, "eval/success": 0.2, "eval/success_low": 0.17, "eval/success_high": 0.23, "time/eval": 1.0}]
    for step in range(1, n + 1):
        level = 0.2 + 0.6 * (1 - math.exp(-step / (n / 2)))
        times = {"generate": 0.5, "score": 0.02, "measure": 0.1, "forward": 0.15, "backward": 0.16, "optimizer": 0.02, "record": 0.01}
        row = {
            "step": step,
            "loss": 0.1 * draw.gauss(0, 1),
            "reward": level + 0.05 * draw.gauss(0, 1),
            "success": level + 0.05 * draw.gauss(0, 1),
            "frac_reward_zero_std": 0.3,
            "completions/mean_length": 12 + 4 * level,
            "entropy": 2 - level,
            "kl": 0.01 * step,
            "grad_norm": 1.0,
            "num_tokens": 1000 * step,
            **{f"time/{name}": value for name, value in times.items()},
            "time/step": 1.0,
            "memory/peak_mb": 400 + step / 10,
        }
        if step % every == 0:
            row |= {"eval/success": level, "eval/success_low": level - 0.03, "eval/success_high": level + 0.03, "time/eval": 1.0}
        rows.append(row)
    return rows


def group_record(tokenizer: Tokenizer, name: str, prompt: str, answers: list[tuple[str, float]], tool: str = "") -> dict:
    """A group as the trainer writes it. tool: text injected into the middle of each answer."""
    item = Item(id=name, prompt=tokenizer.encode(prompt).ids, group_size=len(answers), columns={"answer": "42"})
    rollouts, scores, texts = [], [], []
    for index, (text, reward) in enumerate(answers):
        own, forced = tokenizer.encode(text).ids, tokenizer.encode(tool).ids
        half = len(own) // 2
        ids = [*own[:half], *forced, *own[half:], 0]
        injected = [False] * half + [True] * len(forced) + [False] * (len(own) - half + 1)
        logprobs = [math.nan if flag else -0.05 - 0.4 * (place % 7) for place, flag in enumerate(injected)]
        turn = Turn(context_ids=list(item.prompt), output_ids=ids, logprobs=logprobs, injected=injected)
        rollouts.append(Rollout(item_id=name, index=index, turns=[turn], stop="length" if index == 1 else "eos"))
        scores.append(Score(reward=reward, success=float(reward >= 1), parts={"correct": reward, "format": 0.1}))
        texts.append(tokenizer.decode(ids, skip_special_tokens=False))
    record = group_to_dict(Group(item=item, rollouts=rollouts, scores=scores))
    return {**record, "kept": [True] * len(answers), "texts": texts}


def write_rollouts(path: pathlib.Path, step: int, records: list[dict]) -> None:
    """rollouts/step-000012.jsonl"""
    (path / "rollouts").mkdir(exist_ok=True)
    (path / "rollouts" / f"step-{step:06d}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


RL_CONFIG = {
    "stage": "rl",
    "seed": 3,
    "model": {"path": "runs/sft/checkpoint-40"},
    "data": {"path": "someone/sums"},
    "eval": {"baselines": {"base": "models/base"}},
    "rl": {"steps": 40, "objective": "grpo", "group_size": 4, "rewards": ["number"]},
}
