"""The length reward: 1 in a free band about the target, falling off exponentially on both sides. ACE-RL (arXiv 2509.04903), R_L.

The paper's curve is not published; this one is burnish's own, with its constants as fields.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from burnish.data.ace_rl.checklist import measure, target
from burnish.records import Score, StopReason
from burnish.rl.rewards.ace_rl.visible import visible
from burnish.runs.config import Config
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

EDGE = 1e-9
"""Rounding at the band's edges: they belong to the band."""


class LengthCurve(Config):
    """R_L of x = length / target: 1 where |x - 1| <= free, else exp(-(|x - 1| - free) / scale)."""

    free: float = Field(0.1, ge=0, lt=1, description="half the width of the band that gets 1, as a share of the target")
    scale: float = Field(0.25, gt=0, description="distance beyond the band at which the reward has fallen to 1/e")
    cut_at_most: float = Field(0.9, ge=0, lt=1, description="a text that the token limit cut off never gets more than this")

    def value(self, length: float, target: float, cut: bool = False) -> float:
        """In [0, 1]; `cut`: the text was cut off, so its length says nothing of where it would have ended."""
        beyond = abs(length / target - 1) - self.free
        found = 1.0 if beyond <= EDGE else math.exp(-beyond / self.scale)
        return min(found, self.cut_at_most) if cut else found


class LengthBand:
    """The length reward by itself, to be added to any other: reward = R_L of the text after the thinking; an empty text gets 0.

    length: the column of the target, in the column `length_unit` (words where there is none). unit: in place of that column.
    curve: fields of `LengthCurve`. thinking: the marks whose content is not measured, or None. label: the name in metrics.
    """

    def __init__(
        self,
        length: str = "target_length",
        unit: Literal["words", "characters"] | None = None,
        curve: Mapping[str, Any] | None = None,
        thinking: tuple[str, str] | None = ("<think>", "</think>"),
        label: str = "length_band",
    ) -> None:
        self.length, self.unit, self.thinking, self.name = length, unit, thinking, label
        self.curve = make_curve(curve, f"reward {label}: curve")
        self.decode: Any = None

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order. Raises UserError where the item has no target."""
        where = f"reward {self.name}: item {group.item.id!r}"
        wanted = target(group.item.columns.get(self.length), f"{where}: {self.length}")
        if wanted is None:
            raise UserError(f"{where} has no {self.length}; name the column that holds the wanted length (length: ...)")
        unit = self.unit or group.item.columns.get("length_unit") or "words"
        texts = visible(group, self.thinking, self.decode)
        out = []
        for rollout, text in zip(group.rollouts, texts):
            if rollout.stop == StopReason.ERROR:
                out.append(Score(reward=0.0, invalid=True, extras={"reason": f"{self.name}: the rollout ended in an error"}))
                continue
            reward = self.curve.value(measure(text, unit), wanted, rollout.truncated) if text.strip() else 0.0
            out.append(Score(reward=reward, parts={self.name: reward}))
        return out


def make_curve(given: Any, where: str) -> LengthCurve:
    """The curve of a config. Raises UserError."""
    from burnish.runs.config import build

    return given if isinstance(given, LengthCurve) else build(LengthCurve, dict(given or {}), where)
