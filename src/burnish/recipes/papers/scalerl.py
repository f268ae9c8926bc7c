"""ScaleRL (arXiv 2510.13786): CISPO against the sampler, batch-level scale, groups without variance dropped and not drawn again, items
solved in 90 % of their last group retired, batches up to 8 updates old.

Its forced interruption is the thinker `interrupted`, which needs to know your model's end of thinking: set rl.thinker for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same whatever is given."""
    return {
        "objective": "scalerl",
        "curriculum": {"name": "retirement", "at": 0.9, "window": "last"},
        "thinker": "single",
        "filters": ["zero_variance"],
        "group_size": 16,
        "lag": 8,
        "epsilon": 1e-15,
        "weight_decay": 0.01,
    }
