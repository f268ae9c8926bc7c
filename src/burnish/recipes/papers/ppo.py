"""PPO with a critic (arXiv 1707.06347, for language models arXiv 2203.02155): four passes over each batch, with the clipped ratio.

The critic is a second model of the policy's size; give it a higher learning rate than the policy's where you can (rl.critic_learning_rate).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same whatever is given."""
    return {"objective": "ppo", "curriculum": "shuffled_epochs", "thinker": "single", "filters": [], "epochs": 4}
