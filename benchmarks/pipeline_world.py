"""The run that benchmarks/pipeline.py times and kills: a tiny model, long-tailed lengths, a reward that is soon learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REWARD = '''"""The share of even token ids: easy to learn, and it says nothing of the length."""


def even(completion_ids, **columns):
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]
'''
STOPS = "aeiou"
"""Characters that end a completion: with about 260 tokens at first all alike, lengths are geometric with a mean near 50."""
FULL = {"steps": 60, "prompts": 8, "group": 8, "tokens": 384, "hidden": 64, "lag": 8}
SMALL = {"steps": 12, "prompts": 4, "group": 3, "tokens": 64, "hidden": 32, "lag": 3}


def prepare(folder: Path, size: dict[str, Any]) -> None:
    """Writes model/, train.jsonl and reward.py into `folder`."""
    from burnish.models import tiny, tokenizer
    from burnish.models.save import save_model

    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer.byte_level()
    save_model(tiny.make("qwen3", words, hidden=size["hidden"], layers=2, max_length=512, seed=5), words, folder / "model")
    rows = [{"id": f"p{n}", "prompt": f"say {n:03d} "} for n in range(64)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reward.py").write_text(REWARD)


def settings(folder: Path, output: Path, seed: int, size: dict[str, Any], processes: int, lag: int) -> dict[str, Any]:
    """The config. Everything but processes and lag is the same for all."""
    return {
        "stage": "rl",
        "output": str(output),
        "seed": seed,
        "threads": 1,
        "model": {"path": str(folder / "model")},
        "data": {"path": str(folder / "train.jsonl"), "format": "prompt"},
        "sampling": {"stop": list(STOPS)},
        "eval": {"rows": 8, "samples": 4, "steps": 10},
        "rl": {
            "steps": size["steps"],
            "learning_rate": 0.002,
            "prompts_per_step": size["prompts"],
            "group_size": size["group"],
            "max_new_tokens": size["tokens"],
            "rewards": [f"{folder / 'reward.py'}:even"],
            "objective": "scalerl",
            "filters": [],
            "engine_mode": "fast",
            "slots": size["prompts"] * size["group"],
            "lag": lag,
            "processes": processes,
            "generator_restarts": 3,
            "save_steps": 5,
            "save_total_limit": 2,
        },
    }
