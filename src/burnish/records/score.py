"""Score: what a reward says of one rollout."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass
class Score:
    """reward: the (shaped) number that credit reads. success: raw correctness in [0, 1], or None where unknown;
    retirement, difficulty windows, pass@k and forecasts read it.
    token_rewards: float array over the rollout's loss tokens, added to the reward at their place, or None.
    prompt_weight: multiplies the whole group's weight in the loss.
    parts: named shares of the reward (for metrics). invalid: the verifier or a tool broke; the rollout is left out
    of the statistics and of the loss, never counted as zero.
    """

    reward: float
    success: float | None = None
    token_rewards: np.ndarray | None = None
    prompt_weight: float = 1.0
    parts: dict[str, float] = dataclasses.field(default_factory=dict)
    invalid: bool = False
    extras: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (`extras` must be JSON itself)."""
        out = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        out["token_rewards"] = None if self.token_rewards is None else np.asarray(self.token_rewards).tolist()
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Score:
        """The inverse of `to_dict`."""
        rewards = data.get("token_rewards")
        return cls(**{**data, "token_rewards": None if rewards is None else np.array(rewards, dtype=np.float64)})
