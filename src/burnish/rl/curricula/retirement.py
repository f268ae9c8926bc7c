"""No-positive-resampling: an item that is solved is not drawn again (ScaleRL, arXiv 2510.13786). Wraps any other curriculum."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum, make_curriculum
from burnish.rl.curricula.rates import PassRates
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

ATTEMPT = 1_000_000
"""A further draw within one round is told `round + attempt * ATTEMPT`, so that a curriculum without a state draws anew."""


class Retirement(Curriculum):
    """Draws from `inner` and leaves out items whose pass rate is `threshold` or more.

    history: "last": the rate of an item's last group; "all": of all its rollouts so far. min_count: rollouts that must have been
    scored before an item may retire. inner: the curriculum that orders the rest (a name, or a mapping with its arguments).
    exhausted: what happens once every item is retired: "reopen" forgets all rates, so that all items come back (warns once),
    "refuse" ends the run with a UserError.

    Rates read `Score.success`. Metrics: curriculum/retired, curriculum/reopened. Deterministic by (seed, step, round) and the history.
    """

    def __init__(
        self,
        items: Sequence[Item],
        threshold: float = 0.9,
        history: str = "last",
        min_count: int = 8,
        inner: Any = "shuffled_epochs",
        exhausted: str = "reopen",
    ):
        super().__init__(items)
        if not 0 < threshold <= 1 or min_count < 1:
            raise UserError(f"curriculum retirement: threshold {threshold} must be in (0, 1] and min_count {min_count} at least 1")
        for name, value, known in (("history", history, ("last", "all")), ("exhausted", exhausted, ("reopen", "refuse"))):
            if value not in known:
                raise UserError(f"curriculum retirement: {name} is {value!r}; it must be {known[0]!r} or {known[1]!r}")
        self.threshold, self.exhausted = threshold, exhausted
        self.inner = make_curriculum(inner, self.items)
        self.rates = PassRates(decay=1.0 if history == "all" else 0.0, min_count=min_count)
        self.reopened = 0
        self._warned = False

    def retired(self, item_id: str) -> bool:
        """Whether the item's rate is known and at or above the threshold."""
        rate = self.rates.rate(item_id)
        return rate is not None and rate >= self.threshold

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items that are not retired; where fewer are left, some come twice."""
        active = [item for item in self.items if not self.retired(item.id)] or self._reopen()
        number, chosen, seen, attempt = int(state.get("round", 0)), [], 0, 0
        while len(chosen) < n and seen < 2 * len(self.items) + n:
            fresh = list(self.inner.draw(n - len(chosen), {**state, "round": number + ATTEMPT * attempt}))
            if not fresh:
                break
            chosen += [item for item in fresh if not self.retired(item.id)]
            seen, attempt = seen + len(fresh), attempt + 1
        if len(chosen) < n:  # the inner curriculum insists on retired items
            generator = rng("retirement", int(state.get("seed", 0)), int(state["step"]), number)
            chosen += [active[place] for place in generator.integers(len(active), size=n - len(chosen))]
        return chosen

    def _reopen(self) -> list[Item]:
        if self.exhausted == "refuse":
            raise UserError(
                f"curriculum retirement: all {len(self.items)} items have a pass rate of {self.threshold} or more and are retired; "
                "add harder items, stop earlier, or set exhausted to 'reopen'"
            )
        if not self.reopened:
            warnings.warn("retirement: every item is retired; all come back (add harder items, or stop)", stacklevel=3)
        self.reopened += 1
        self.rates.counts.clear()
        return self.items

    def observe(self, batch: Any) -> None:
        """Counts the successes of a scored batch (`batch.groups`); the inner curriculum is shown it too."""
        known = self.rates.add(batch.groups)
        if batch.groups and not known and not self._warned:
            self._warned = True
            text = "retirement: the scores carry no success, so no item ever retires; use a reward that sets it"
            warnings.warn(text, stacklevel=2)
        if hasattr(self.inner, "observe"):
            self.inner.observe(batch)

    def metrics(self) -> dict[str, float]:
        """Items retired now, and how often all came back; and what the inner curriculum logs."""
        inner = self.inner.metrics() if hasattr(self.inner, "metrics") else {}
        retired = sum(self.retired(item.id) for item in self.items)
        return {**inner, "curriculum/retired": float(retired), "curriculum/reopened": float(self.reopened)}

    def state_dict(self) -> dict[str, Any]:
        """Rates, and the inner curriculum's state."""
        inner = self.inner.state_dict() if hasattr(self.inner, "state_dict") else {}
        return {"rates": self.rates.state_dict(), "reopened": self.reopened, "warned": self._warned, "inner": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.rates.load_state_dict(state["rates"])
        self.reopened, self._warned = int(state["reopened"]), bool(state["warned"])
        if hasattr(self.inner, "load_state_dict"):
            self.inner.load_state_dict(state["inner"])


part = Retirement
