"""HERO (arXiv 2510.07242): a verifier's right and wrong in two bands, a scorer's ranks inside them; centre only, clip-higher, no KL.

Dividing by a group's standard deviation would cancel the bands and the prompt weights, so the objective centres alone. The shaper needs
to know your scorer: set rl.shapers to [{name: hero, scorer: ...}], with alpha and beta of 0.1 where the verifier covers the data badly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same whatever is given. Without rl.shapers of your own the run is refused, for lack of a scorer."""
    clip = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}
    return {
        "objective": {"preset": "grpo", "credit": "group_mean", "surrogate": clip, "kl": {"beta": 0.0}},
        "thinker": "single",
        "shapers": ["hero"],
        "filters": [],
        "group_size": 8,
        "minibatches": 4,
        "learning_rate": 1e-6,
    }
