"""G2RL (arXiv 2512.15687): rewards shaped by how novel an update is, group standardisation, a ratio by sequence, KL 0.001 in the loss.

The ratio here is the mean by token (GSPO's), which long completions need; the paper's clip range is not known, so it is the usual 0.2.
Rewards are 1 and 0; where yours are 1 and -1, set rl.shapers to [{name: g2rl, wrong: -1}]. At another temperature than 1 the shaper needs
it too: {name: g2rl, temperature: 0.8}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.recipes.papers._given import number


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Needs prompts_per_step: 16 prompts of 16 completions make 8 optimiser steps of 32; fewer prompts make fewer."""
    prompts = number(given, "prompts_per_step", 16)
    clip = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2}
    return {
        "objective": {"preset": "grpo", "ratio": "sequence", "surrogate": clip, "kl": {"estimator": "k3", "place": "loss", "beta": 0.001}},
        "thinker": "single",
        "shapers": ["g2rl"],
        "filters": [],
        "prompts_per_step": prompts,
        "group_size": 16,
        "minibatches": max(1, prompts // 2),
        "learning_rate": 5e-7,
    }
