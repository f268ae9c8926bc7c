"""How tokens are drawn from the model's distribution."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Sampling settings of one turn.

    temperature: divides the logits; 0 means greedy (log-probs are then those at temperature 1).
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set whose probability reaches top_p; 1 keeps all.
    min_p: drop tokens less likely than min_p times the most likely one; 0 keeps all.
    stop: strings that end the turn when the decoded output contains one (the tokens stay in the output).
    stop_ids: token ids that end the turn, besides the model's own end-of-sequence ids.
    bans: token ids that are never drawn.

    Raises ValueError where a value lies outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    bans: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("stop", "stop_ids", "bans"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        checks = {
            "temperature": (math.isfinite(self.temperature) and self.temperature >= 0, "a finite number >= 0"),
            "top_k": (self.top_k >= 0, "an integer >= 0 (0 keeps all tokens)"),
            "top_p": (0 < self.top_p <= 1, "a number in (0, 1]"),
            "min_p": (0 <= self.min_p < 1, "a number in [0, 1)"),
            "stop": (all(self.stop), "strings that are not empty"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise ValueError(f"sampling.{name} is {getattr(self, name)!r}; it must be {wanted}")

    @property
    def truncates(self) -> bool:
        """True where the drawn distribution is not the model's own at this temperature."""
        return bool(self.top_k or self.top_p < 1 or self.min_p > 0 or self.bans)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}
