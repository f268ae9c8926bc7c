"""DAPO (arXiv 2503.14476): clip-higher, no KL, groups without variance drawn again, truncated completions dropped, soft overlong.

The punishment starts a fifth of max_new_tokens before the limit, as 4,096 of 20,480 do there. It is half as large as in the paper,
whose rewards are 1 and -1: the same share of the span between right and wrong where your rewards are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.recipes.papers._given import number


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Needs max_new_tokens, prompts_per_step and max_rounds."""
    limit, prompts, rounds = number(given, "max_new_tokens", 256), number(given, "prompts_per_step", 8), number(given, "max_rounds", 10)
    return {
        "objective": "dapo",
        "curriculum": "shuffled_epochs",
        "thinker": "single",
        "shapers": [{"name": "overlong", "max_length": limit, "cache": max(1, limit // 5), "scale": 0.5}],
        "filters": [{"name": "refill", "filter": ["truncated", "zero_variance"], "prompts": prompts, "rounds": rounds}],
        "group_size": 16,
        "max_rounds": 10,
    }
