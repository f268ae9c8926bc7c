"""h1 (arXiv 2510.07312): Dr.GRPO on chains of short problems, reward 1 for the last answer alone, the horizon raised in stages.

Nothing is dropped and nothing drawn again. The published stages are of about 200 steps each: `threshold: null` in the curriculum; here a
stage also ends where 0.8 is reached. max_new_tokens is the limit of the longest chains; shorter ones get their share of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same whatever is given."""
    return {
        "objective": "dr_grpo",
        "curriculum": {"name": "long_horizon_chains", "steps": 200, "threshold": 0.8},
        "thinker": "single",
        "rewards": ["long_horizon_chains"],
        "filters": [],
        "group_size": 16,
    }
