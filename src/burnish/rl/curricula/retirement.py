"""Prompts that are solved are never drawn again: ScaleRL's No-Positive-Resampling (arXiv 2510.13786, section 3)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum, make_curriculum
from burnish.runs.errors import UserError

Window = Literal["last", "all"]
TINY = 1e-9
"""A mean of decimals may fall short of them by rounding."""


def retired(visits: Mapping[str, Sequence[float]], at: float = 0.9, window: Window = "last", min_count: int = 1) -> list[str]:
    """The prompts whose pass rate is at least `at`, in the order of `visits` (prompt -> pass rate of each visit, in order).

    window: the last visit's pass rate, or the mean over all visits. Prompts with fewer than `min_count` visits stay.
    """
    out = []
    for name, rates in visits.items():
        if len(rates) >= max(1, min_count):
            rate = rates[-1] if window == "last" else sum(rates) / len(rates)
            if rate >= at - TINY:
                out.append(name)
    return out


class Retirement(Curriculum):
    """Draws from another curriculum and leaves out prompts that the policy already solves.

    curriculum: the one inside (a name or mapping; default every item once an epoch). at: pass rate that retires. window: of the last
    visit, or of all. min_count: visits before a prompt may retire. A visit is one group of scored rollouts; its rate reads `Score.success`.

    The way out: where every prompt is retired, all come back, their visits forgotten, and this warns once.
    """

    def __init__(
        self,
        items: Sequence[Item],
        curriculum: Any = "shuffled_epochs",
        at: float = 0.9,
        window: Window = "last",
        min_count: int = 1,
    ):
        super().__init__(items)
        if not 0 < at <= 1 or min_count < 1 or window not in ("last", "all"):
            raise UserError(
                f"curriculum retirement: at {at} must lie in (0, 1], min_count {min_count} must be at least 1"
                f" and window {window!r} 'last' or 'all'"
            )
        self.inner = make_curriculum(curriculum, items)
        self.at, self.window, self.min_count = at, window, min_count
        self.visits: dict[str, list[float]] = {}  # item id -> [visits, rate of the last, sum of all]
        self._names = {item.id for item in self.items}
        self._warned = False

    def is_retired(self, item_id: str) -> bool:
        """Whether a prompt is left out now."""
        count, last, total = self.visits.get(item_id, [0.0, 0.0, 0.0])
        return count >= self.min_count and (last if self.window == "last" else total / count) >= self.at - TINY

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items that are not retired."""
        if all(self.is_retired(item.id) for item in self.items):
            self._bring_back()
        out: list[Item] = []
        rounds = 0
        while len(out) < n:
            drawn = self.inner.draw(n - len(out), {**state, "round": int(state.get("round", 0)) + 10_000 * rounds})
            out += [item for item in drawn if not self.is_retired(item.id)]
            rounds += 1
            if rounds > 50 + 20 * len(self.items) // n:  # an inner curriculum that only ever draws retired prompts
                left = [item for item in self.items if not self.is_retired(item.id)]
                out += [left[place % len(left)] for place in range(n - len(out))]
        return out

    def _bring_back(self) -> None:
        self.visits = {}
        if not self._warned:
            self._warned = True
            text = "retirement: every prompt is solved and was retired; all of them come back (add harder prompts, or stop)"
            warnings.warn(text, stacklevel=3)

    def observe(self, batch: Any) -> None:
        """Counts one visit for each scored group (`batch.groups`); the inner curriculum observes, too."""
        for group in batch.groups:
            known = [score.success for score in group.scores if not score.invalid and score.success is not None]
            if known:
                rate = float(sum(known)) / len(known)
                name = group.item.id if group.item.id in self._names else group.item.id.rpartition("#")[0]  # drawn twice: id#2
                count, _, total = self.visits.get(name, [0.0, 0.0, 0.0])
                self.visits[name] = [count + 1, rate, total + rate]
        if hasattr(self.inner, "observe"):
            self.inner.observe(batch)

    def metrics(self) -> dict[str, float]:
        """`curriculum/retired`: the share of prompts left out."""
        inner = self.inner.metrics() if hasattr(self.inner, "metrics") else {}
        return {**inner, "curriculum/retired": sum(self.is_retired(item.id) for item in self.items) / len(self.items)}

    def state_dict(self) -> dict[str, Any]:
        """Visits, and the inner curriculum's state."""
        inner = self.inner.state_dict() if hasattr(self.inner, "state_dict") else {}
        return {"visits": {key: list(value) for key, value in self.visits.items()}, "warned": self._warned, "inner": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.visits = {key: [float(number) for number in value] for key, value in state["visits"].items()}
        self._warned = bool(state["warned"])
        if hasattr(self.inner, "load_state_dict"):
            self.inner.load_state_dict(state["inner"])


part = Retirement
