"""Replay of rare successes: a success on an item that is seldom solved joins later groups of that item, with its off-policy ratio."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Group, Rollout, Score
from burnish.rl.batch import REPLAYED
from burnish.rl.curricula.rates import PassRates
from burnish.rl.filters.result import FilterResult, all_valid
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Kept:
    """One success. version: the oldest weights that drew one of its tokens."""

    item: str
    rollout: Rollout
    score: Score
    version: int


class Replay:
    """Keeps up to `capacity` successes (per_item of one item, the newest) of items whose pass rate is at most `rare`, and adds up to
    `per_group` of them to each later group of their item. What it is shown as a filter it keeps.

    rare: highest pass rate (of all rollouts of the item so far) of an item that is kept; once it rises above, its successes are dropped.
    success: least `Score.success` that counts. max_age: a success is dropped when its oldest token is so many weight versions old.
    only_failed: only groups without a success of their own get one.

    What becomes of the group: a replayed rollout is one more member. It counts in baseline, scale, denominators and the other filters
    (a group of failures now has a variance), with the score that it got when it was drawn. It does not count in pass rates, nor in the
    metrics of rewards, lengths and tokens. Its log-probs and versions are those of its own sampling: the objective must weigh it by
    a ratio against the sampler, or correct by one (see `check_objective`). `Score.extras["replayed"]` is its age in versions.

    Name it in rl.filters before `zero_variance`. Metrics: replay/kept, replay/used (of the step), replay/age (mean of those used).
    """

    name = "replay"

    def __init__(
        self,
        rare: float = 0.25,
        capacity: int = 256,
        per_item: int = 2,
        per_group: int = 1,
        max_age: int = 32,
        only_failed: bool = True,
        success: float = 1.0,
    ):
        if not 0 < rare <= 1:
            raise UserError(f"filter replay: rare is {rare}; it must be in (0, 1]")
        for name, value in (("capacity", capacity), ("per_item", per_item), ("per_group", per_group), ("max_age", max_age)):
            if value < 1:
                raise UserError(f"filter replay: {name} is {value}; it must be at least 1")
        self.rare, self.capacity, self.per_item, self.per_group = rare, capacity, per_item, per_group
        self.max_age, self.only_failed, self.success = max_age, only_failed, success
        self.rates = PassRates()
        self.kept: list[Kept] = []  # oldest first
        self._used: list[float] = []

    def __call__(self, groups: Sequence[Group]) -> FilterResult:
        """All valid rollouts stay; see `extend` for what it adds."""
        return FilterResult(all_valid(groups))

    @staticmethod
    def check_objective(objective: Any) -> None:
        """Raises UserError unless the objective weighs a token by how likely the policy is to draw it now, against when it was drawn."""
        ratio = objective.ratio
        against_sampler = getattr(ratio, "against", "start") == "sampler" and getattr(ratio, "level", "none") != "none"
        if not against_sampler and not any(hasattr(part, "ratio") for part in objective.correction):
            raise UserError(
                f"filter replay adds rollouts of older weights, but objective {objective.name!r} neither takes its ratio against the "
                "sampler nor corrects for it, so they would count as the policy's own; use scalerl, set ratio "
                "{name: token, against: sampler}, or set correction to truncate or mask"
            )

    def extend(self, groups: Sequence[Group], version: int) -> list[Group]:
        """One round's groups with replayed successes behind their own rollouts. version: of the weights now.

        What was kept before this round is used; the round's own successes are kept afterwards.
        """
        self.kept = [one for one in self.kept if version - one.version <= self.max_age]
        out = [self._with(group, version) for group in groups]
        self.rates.add(groups)
        for group in groups:
            rate = self.rates.rate(group.item.id)
            if rate is not None and rate <= self.rare:
                self.kept += [
                    kept_of(group.item.id, *pair) for pair in zip(group.rollouts, group.scores, strict=True) if self._counts(*pair)
                ]
        self._shrink()
        return out

    def _with(self, group: Group, version: int) -> Group:
        if self.only_failed and any(not score.invalid and (score.success or 0.0) >= self.success for score in group.scores):
            return group
        chosen = [one for one in reversed(self.kept) if one.item == group.item.id][: self.per_group]  # the least off-policy first
        if not chosen:
            return group
        index = max((rollout.index for rollout in group.rollouts), default=-1) + 1
        weight = next((score.prompt_weight for score in group.scores if not score.invalid), 1.0)
        rollouts, scores = list(group.rollouts), list(group.scores)
        for place, one in enumerate(chosen):
            age = version - one.version
            self._used.append(float(age))
            rollouts.append(dataclasses.replace(one.rollout, index=index + place))
            scores.append(dataclasses.replace(one.score, prompt_weight=weight, extras={**one.score.extras, REPLAYED: age}))
        return Group(group.item, rollouts, scores)

    def _counts(self, rollout: Rollout, score: Score) -> bool:
        own = any(turn.train for turn in rollout.turns) and rollout.n_loss_tokens > 0
        return own and not score.invalid and score.success is not None and score.success >= self.success

    def _shrink(self) -> None:
        """The newest of each item, and the newest of all."""
        counts: dict[str, int] = {}
        newest: list[Kept] = []
        for one in reversed(self.kept):
            counts[one.item] = counts.get(one.item, 0) + 1
            if counts[one.item] <= self.per_item and (self.rates.rate(one.item) or 0.0) <= self.rare:
                newest.append(one)
        self.kept = newest[: self.capacity][::-1]

    def metrics(self) -> dict[str, float]:
        """Since the last call; what is kept now."""
        used, self._used = self._used, []
        age = {"replay/age": sum(used) / len(used)} if used else {}
        return {"replay/kept": float(len(self.kept)), "replay/used": float(len(used)), **age}

    def state_dict(self) -> dict[str, Any]:
        """The kept rollouts and the pass rates, as plain JSON values."""
        kept = [[one.item, one.rollout.to_dict(), one.score.to_dict(), one.version] for one in self.kept]
        return {"kept": kept, "rates": self.rates.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.kept = [
            Kept(item, Rollout.from_dict(rollout), Score.from_dict(score), int(age)) for item, rollout, score, age in state["kept"]
        ]
        self.rates.load_state_dict(state["rates"])


def kept_of(item: str, rollout: Rollout, score: Score) -> Kept:
    """A success worth keeping, with the age of its oldest own token."""
    return Kept(item, rollout, score, min(int(turn.version[turn.loss_mask].min()) for turn in rollout.turns if turn.loss_mask.any()))


def refuse_nested(filters: Sequence[Any]) -> None:
    """Raises UserError where a filter that adds rollouts stands inside another one, where nobody would ask it."""
    for part in filters:
        for inner in [*getattr(part, "filters", ()), *([part.filter] if hasattr(part, "filter") else [])]:
            if hasattr(inner, "extend"):
                name = getattr(inner, "name", "replay")
                raise UserError(f"rl.filters: {name!r} adds rollouts and must stand by itself in the list, not inside another filter")
            refuse_nested([inner])


part = Replay
