"""Filters made of filters: `chain` and `refill`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from burnish.records import Group
from burnish.rl.filters.result import FilterResult, all_valid
from burnish.runs.errors import UserError
from burnish.runs.parts import make

Filter = Callable[[Sequence[Group]], FilterResult]
PACKAGE = "burnish.rl.filters"


def make_filter(spec: Any) -> Filter:
    """A filter from a name, a mapping, an object, or a list of these (a chain)."""
    if isinstance(spec, (list, tuple)):
        return spec[0] if len(spec) == 1 and callable(spec[0]) else Chain([make_filter(one) for one in spec])
    made = make(PACKAGE, spec)
    return made() if isinstance(made, type) else made


class Chain:
    """Each filter sees only what those before it kept: `["truncated", "zero_variance"]` asks whether the completed rollouts differ.

    The largest wish for more groups counts; counts are joined.
    """

    name = "chain"

    def __init__(self, filters: Sequence[Any]):
        self.filters = [make_filter(spec) for spec in filters]

    def __call__(self, groups: Sequence[Group]) -> FilterResult:
        """Flags of all filters together, laid out over the groups as given."""
        keep, more = all_valid(groups), 0
        counts: dict[str, float] = {}
        for part in self.filters:
            seen = [_selected(group, flags) for group, flags in zip(groups, keep, strict=True)]
            result = part(seen)
            for flags, verdict in zip(keep, result.keep, strict=True):
                kept = [place for place, flag in enumerate(flags) if flag]
                for place, flag in zip(kept, verdict, strict=True):
                    flags[place] = flag
            more, counts = max(more, result.more), {**counts, **result.counts}
        return FilterResult(keep, more, counts)


class Refill:
    """Asks for as many groups as the inner filter dropped, until `prompts` groups are kept or `rounds` rounds were drawn.

    Every later call of a step shows more groups than the one before (all so far); where it does not, a new step has begun.
    counts["refill_rounds"]: rounds drawn in this step; counts["refill_short"]: groups that are still missing after the last.
    """

    name = "refill"

    def __init__(self, filter: Any, prompts: int, rounds: int = 4):
        if prompts < 1 or rounds < 1:
            raise UserError(f"filter refill: prompts is {prompts} and rounds {rounds}; both must be at least 1")
        self.filter, self.prompts, self.rounds = make_filter(filter), prompts, rounds
        self._round, self._seen = 0, 0

    def __call__(self, groups: Sequence[Group]) -> FilterResult:
        """The inner filter's flags, and how many groups to draw again."""
        self._round = self._round + 1 if len(groups) > self._seen else 1
        self._seen = len(groups)
        result = self.filter(groups)
        missing = max(self.prompts - sum(result.groups), 0)
        more = missing if self._round < self.rounds else 0
        counts = {**result.counts, "refill_rounds": float(self._round), "refill_short": float(missing - more)}
        return FilterResult(result.keep, more, counts)


def _selected(group: Group, flags: Sequence[bool]) -> Group:
    places = [place for place, flag in enumerate(flags) if flag]
    return Group(group.item, [group.rollouts[place] for place in places], [group.scores[place] for place in places])


parts = {"chain": Chain, "refill": Refill}
