"""What the tests of TRL's trainers share: tiny models, rows and reward functions."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.models import tiny
from burnish.models.save import save_model

needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed (extra: bench)")
PAIRS = [{"prompt": f"say {k}: ", "completion": "x" * (k + 1), "other": k} for k in range(8)]


def saved(words: Any, folder: Path) -> str:
    """The folder of a tiny model. Its head is scaled up, so that tokens differ in how likely they are."""
    made = tiny.make("qwen3", words, hidden=32, layers=2, max_length=256, seed=1)
    with torch.no_grad():
        made.lm_head.weight.mul_(4)
    return str(save_model(made, words, folder / "model"))


def reward_letters(completions: list[str], weight: list[float], **kwargs: Any) -> list[float]:
    return [w * sum(map(ord, text)) % 7 / 3 for text, w in zip(completions, weight)]


def reward_distinct(completion_ids: list[list[int]], **kwargs: Any) -> list[float | None]:
    return [len(set(ids)) / 4 if len(ids) > 1 else None for ids in completion_ids]


def rows(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{'ab' * k}{k}=", "weight": 1.0 + k} for k in range(n)]
