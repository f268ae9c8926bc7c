"""The learning table's experiment in numbers: one task, one model, one budget and one grid for all presets."""

from __future__ import annotations

import dataclasses
from typing import Any

from burnish.tasks.sort import Sort

LETTERS = 4
TASK = Sort(length=LETTERS)
REWARD: dict[str, Any] = {"name": "task", "task": "sort", "length": LETTERS}
NEW_TOKENS = LETTERS + 3
MODEL: dict[str, Any] = {"hidden": 72, "layers": 2, "heads": 4, "kv_heads": 2, "max_length": 32}
"""98,496 parameters, a Qwen3-type model on single characters."""

SFT_RATE = 3e-3

TARGET = 0.6
"""Held-out pass rate that every preset must exceed."""

PRESETS = (
    *("grpo", "dr_grpo", "rloo", "reinforce", "reinforce++", "reinforce++-baseline"),
    *("dapo", "gspo", "gmpo", "cispo", "scalerl", "lite_ppo", "ppo"),
)
"""In the order in which they are run; their published knobs are not touched."""

CONTROL = "random-reward"
"""grpo at its own rate with a coin for a reward."""

RATES = (1e-4, 3e-4, 1e-3)
GRID_SEED = 100
SEEDS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Scale:
    """What differs between the sizes. completions: of one optimiser step, the same for every preset. tokens: budget of generated tokens.

    eval_every: completions drawn between two evaluations.
    samples, final_samples: completions of each held-out prompt on the way and at the end.
    """

    presets: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    demonstrations: int
    slips: float
    sft_steps: int
    sft_batch: int
    problems: int
    completions: int
    tokens: int
    eval_every: int
    held_out: int
    samples: int
    final_samples: int


FULL = Scale(PRESETS, RATES, SEEDS, 16000, 0.85, 300, 64, 12000, 128, 32_000, 1280, 256, 2, 4)
SMOKE = Scale(("grpo", "reinforce", "cispo"), RATES[1:2], (1,), 200, 0.85, 4, 16, 200, 16, 200, 64, 8, 1, 1)


def scale(size: str) -> Scale:
    """The numbers of a size."""
    return FULL if size == "full" else SMOKE


def common(size: str) -> dict[str, Any]:
    """What all runs of a size have in common, the base model included."""
    numbers = dataclasses.asdict(scale(size))
    own = {key: value for key, value in numbers.items() if key not in ("presets", "rates", "seeds")}
    return {"task": TASK.name, "letters": LETTERS, "new_tokens": NEW_TOKENS, "model": MODEL, "sft_rate": SFT_RATE, **own}


WITHOUT_RATIO = ("reinforce", "rloo")
"""Presets that treat every sample as on-policy: one update for each batch, of half the size."""


def rl_settings(preset: str, size: str) -> dict[str, Any]:
    """Fields of `rl` for a preset.

    Every optimiser step learns from the same number of completions. Presets with a ratio draw two steps' worth at once and take two
    updates on it (mini-batches), so that the ratio leaves 1 and a clip can act; presets without one draw one step's worth. Groups of 8;
    REINFORCE++ has none, so 1. PPO passes over its batch four times, as its setting says.
    """
    numbers = scale(size)
    group = 1 if preset == "reinforce++" else 8
    updates = 1 if preset in WITHOUT_RATIO else 2
    prompts = max(updates, numbers.completions * updates // group)
    found: dict[str, Any] = {"objective": preset, "group_size": group, "prompts_per_step": prompts, "minibatches": updates}
    if preset == "ppo":
        found["epochs"] = 4
    if preset == "dapo":
        inner = {"name": "chain", "filters": ["truncated", "zero_variance"]}
        found["filters"] = [{"name": "refill", "filter": inner, "prompts": prompts, "rounds": 3}]
        found["max_rounds"] = 3
    return found
