"""ACE-RL (arXiv 2509.04903): GRPO with the group's standard deviation, no KL, 32 completions for each of 64 instructions, 200 steps.

Its reward is `ace_rl`, which needs your judge: set rl.rewards to [{name: ace_rl, judge: ...}].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same whatever is given."""
    return {
        "objective": "grpo",
        "beta": 0.0,
        "group_size": 32,
        "prompts_per_step": 64,
        "learning_rate": 1e-6,
        "max_new_tokens": 8192,
        "steps": 200,
    }
