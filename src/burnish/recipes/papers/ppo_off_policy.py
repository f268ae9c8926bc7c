"""PPO-off-policy-k, the baseline that ScaleRL (arXiv 2510.13786) compares PipelineRL-k with: k batches of prompts are drawn at once, then
k updates are made, one on each k-th of them; nothing is drawn meanwhile. Everything else is the recipe `scalerl`.

k is rl.minibatches (8 as in the paper), and rl.prompts_per_step must hold k updates' worth of prompts: set both for your own sizes. One
step is thus k updates: `rl.steps` counts batches of k, and the last update of a batch is k - 1 updates off the policy that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.recipes.papers import scalerl
from burnish.recipes.papers._given import number

PROMPTS = 8
"""Of one update: rl.prompts_per_step's own default, so that an update is as large as with the recipe scalerl (48 in the paper)."""


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Needs minibatches."""
    updates = number(given, "minibatches", 8)
    return {**scalerl.recipe(given), "lag": 0, "minibatches": updates, "prompts_per_step": updates * PROMPTS}
