"""Short chains first: the horizon rises by steps or by success. h1 (arXiv 2510.07312), the curriculum of its training section."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Item
from burnish.rl.curricula.base import Curriculum
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

NAME = "curriculum long_horizon_chains"


class HorizonCurriculum(Curriculum):
    """Stages h = first, first + 1, ..., last: each draws chains of h problems only, and weights are carried on.

    Items carry their horizon in the column `horizon` (`burnish data long-horizon-chains` writes it); a stage without items is skipped.
    last: the last horizon; None: the longest of the items. The paper's models were trained to 5, with about 200 steps a stage.
    threshold: the stage ends where the mean success at h over the last `window` steps reaches it. None: by steps alone, as published.
    steps: the stage ends after so many steps in any case; a list gives each stage its own. The last stage never ends.
    keep: share of the draws, in every stage but the first, from shorter chains of any length (0, as published; 0.1 to 0.2 guards
        against forgetting).
    tokens: a stage's output limit is `tokens` for each problem, at most the item's own limit; None: the same share of the item's limit as
        h is of `last`.
    solved: success at the first horizon below which the run is refused, and the run is refused where chains one longer have none at all:
        before the first stage both are drawn in turn, until `probe` groups of each are scored. probe=0 asks nothing.

    Success is read from `Score.success`; invalid scores do not count. A step is one value of `state["step"]`, however many rounds it has.
    Draws are without replacement within an epoch of each horizon's items, a pure function of the seed and of how many were drawn.

    Raises UserError for bad settings, items without a horizon, and from `observe` with the measured rates where the start is too weak.
    """

    def __init__(
        self,
        items: Sequence[Item],
        first: int = 1,
        last: int | None = None,
        steps: int | Sequence[int] = 200,
        threshold: float | None = 0.8,
        window: int = 10,
        keep: float = 0.0,
        tokens: int | None = None,
        solved: float = 0.5,
        probe: int = 8,
    ):
        super().__init__(items)
        self.by_horizon = _sorted_out(self.items)
        there = [h for h in sorted(self.by_horizon) if first <= h <= (last or max(self.by_horizon))]
        if not there or there[0] != first or (last is not None and there[-1] != last):
            known = ", ".join(map(str, sorted(self.by_horizon)))
            raise UserError(f"{NAME}: there are no items from horizon {first} to {last or 'the longest'}; the items have {known}")
        self.stages, self.last = there, there[-1]
        self.caps = [steps] * len(there) if isinstance(steps, int) else [int(cap) for cap in steps]
        if len(self.caps) not in (len(there), len(there) - 1) or min(self.caps, default=1) < 1:
            raise UserError(f"{NAME}: steps is {steps}; give one number of at least 1, or one for each of the {len(there)} stages")
        if not (threshold is None or 0 < threshold <= 1) or not 0 <= keep < 1 or not 0 <= solved <= 1:
            raise UserError(f"{NAME}: threshold {threshold}, keep {keep} and solved {solved} must lie in (0, 1], [0, 1) and [0, 1]")
        if window < 1 or probe < 0 or (tokens is not None and tokens < 1):
            raise UserError(f"{NAME}: window {window} and tokens {tokens} must be at least 1, probe {probe} at least 0")
        self.threshold, self.window, self.keep, self.tokens, self.solved, self.probe = threshold, window, keep, tokens, solved, probe
        self.stage = 0
        self.begun = 0  # steps drawn in this stage
        self.step: int | None = None
        self.recent: list[list[float]] = []  # of this stage: [step, successes, rollouts]
        self.probing = probe > 0 and len(there) > 1
        self.probed: dict[int, list[float]] = {h: [0.0, 0.0, 0.0] for h in there[:2]}  # successes, rollouts, groups
        self.drawn: dict[int, int] = {}

    @property
    def horizon(self) -> int:
        """Of the present stage."""
        return self.stages[self.stage]

    @property
    def success(self) -> float | None:
        """Running mean success at the present horizon; None before any was seen."""
        count = sum(row[2] for row in self.recent)
        return sum(row[1] for row in self.recent) / count if count else None

    def limit(self, item: Item, horizon: int) -> int:
        """Output limit of an item in the stage of that horizon, in tokens."""
        own = item.limits.max_new_tokens
        return min(own, self.tokens * horizon if self.tokens is not None else -(-own * horizon // self.last))

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items of the present stage, each with the stage's output limit."""
        step, seed = int(state["step"]), int(state.get("seed", 0))
        if self.step != step:
            self._advance()
            self.step, self.begun = step, self.begun + (not self.probing)
        generator = rng("horizon", seed, step, int(state.get("round", 0)))
        return [self._next(horizon, seed) for horizon in self._horizons(n, generator)]

    def _horizons(self, n: int, generator: Any) -> list[int]:
        if self.probing:
            before = sum(self.drawn.values())
            return [self.stages[(before + place) % 2] for place in range(n)]
        if not self.keep or not self.stage:
            return [self.horizon] * n
        shorter = generator.choice(self.stages[: self.stage], size=n)
        return [int(other) if kept else self.horizon for other, kept in zip(shorter, generator.random(n) < self.keep)]

    def _next(self, horizon: int, seed: int) -> Item:
        pool, number = self.by_horizon[horizon], self.drawn.get(horizon, 0)
        self.drawn[horizon] = number + 1
        epoch, place = divmod(number, len(pool))
        item = pool[_order(horizon, seed, epoch, len(pool))[place]]
        limit = self.limit(item, max(horizon, self.horizon))
        return dataclasses.replace(item, limits=dataclasses.replace(item.limits, max_new_tokens=limit))

    def _advance(self) -> None:
        """Ends the stage where it is time."""
        if self.probing or self.stage + 1 == len(self.stages):
            return
        success = self.success
        reached = self.threshold is not None and success is not None and len(self.recent) >= self.window and success >= self.threshold
        if reached or self.begun >= self.caps[self.stage]:
            self.stage, self.begun, self.recent = self.stage + 1, 0, []

    def observe(self, batch: Any) -> None:
        """Counts the successes of a scored batch. Raises UserError where the start model is too weak for the curriculum."""
        found: dict[int, list[float]] = {}
        for group in batch.groups:
            known = [float(score.success) for score in group.scores if not score.invalid and score.success is not None]
            row = found.setdefault(_horizon_of(group.item), [0.0, 0.0, 0.0])
            row[:] = [row[0] + sum(known), row[1] + len(known), row[2] + bool(known)]
        if (
            batch.groups
            and not any(row[1] for row in found.values())
            and not any(score.invalid for g in batch.groups for score in g.scores)
        ):
            raise UserError(f"{NAME}: the scores carry no success, which the stages go by; use a reward that sets it")
        if self.probing:
            self._probe(found)
            return
        solved, count, _ = found.get(self.horizon, [0.0, 0.0, 0.0])
        if count:
            if self.recent and self.recent[-1][0] == batch.step:  # another round of the same step
                self.recent[-1] = [batch.step, self.recent[-1][1] + solved, self.recent[-1][2] + count]
            else:
                self.recent = [*self.recent, [batch.step, solved, count]][-self.window :]

    def _probe(self, found: Mapping[int, Sequence[float]]) -> None:
        for h, total in self.probed.items():
            total[:] = [a + b for a, b in zip(total, found.get(h, (0.0, 0.0, 0.0)))]
        if any(total[2] < self.probe for total in self.probed.values()):
            return
        self.probing = False
        (h1, one), (h2, two) = self.probed.items()
        rates = f"measured {one[0] / one[1]:.3f} at horizon {h1} and {two[0] / two[1]:.3f} at horizon {h2}"
        if one[0] / one[1] < self.solved:
            raise UserError(
                f"{NAME}: the model does not solve horizon {h1} ({rates}; {self.solved:g} is needed): "
                "fine-tune it on single problems first, take easier ones, or lower `solved`"
            )
        if two[0] == 0:
            raise UserError(
                f"{NAME}: the model never succeeds at horizon {h2} ({rates}), so its stage could not begin: take easier problems, "
                "a higher output limit, or a stronger model; probe=0 starts all the same"
            )

    def metrics(self) -> dict[str, float]:
        """The stage, its steps and its running success."""
        out = {"curriculum/horizon": float(self.horizon), "curriculum/stage_steps": float(self.begun)}
        return out if self.success is None else out | {"curriculum/success": self.success}

    def state_dict(self) -> dict[str, Any]:
        """Everything that moves."""
        names = ("stage", "begun", "step", "probing")
        moved = {"drawn": {str(h): n for h, n in self.drawn.items()}, "probed": {str(h): list(row) for h, row in self.probed.items()}}
        return {name: getattr(self, name) for name in names} | {"recent": [list(row) for row in self.recent]} | moved

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.stage, self.begun, self.probing = int(state["stage"]), int(state["begun"]), bool(state["probing"])
        self.step = None if state["step"] is None else int(state["step"])
        self.recent = [[int(step), float(solved), float(count)] for step, solved, count in state["recent"]]
        self.drawn = {int(h): int(n) for h, n in state["drawn"].items()}
        self.probed = {int(h): [float(value) for value in row] for h, row in state["probed"].items()}


@functools.lru_cache(maxsize=64)
def _order(horizon: int, seed: int, epoch: int, size: int) -> Any:
    return rng("horizon epoch", horizon, seed, epoch).permutation(size)


def _horizon_of(item: Item) -> int:
    value = item.columns.get("horizon")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(
            f"{NAME}: item {item.id!r} has horizon {value!r}; every row needs a column `horizon`, a whole number of at least 1 "
            "(`burnish data long-horizon-chains` writes it)"
        )
    return value


def _sorted_out(items: Sequence[Item]) -> dict[int, list[Item]]:
    out: dict[int, list[Item]] = {}
    for item in items:
        out.setdefault(_horizon_of(item), []).append(item)
    return out


part = HorizonCurriculum
