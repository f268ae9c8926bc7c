"""How one optimiser step is cut: into mini-batches of whole groups, and those into micro-batches of whole rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.records import Rollout
from burnish.runs.ranks import cut_evenly
from burnish.runs.seeds import rng


def mini_batches(groups: Sequence[Sequence[int]], parts: int, *keys: int | str) -> list[list[int]]:
    """Deals whole groups (lists of rollout numbers) into `parts` optimiser steps of nearly equal size, shuffled by `keys`.

    One part keeps the order as it is. Fewer groups than parts give fewer steps; rollout numbers come out in rising order.
    """
    filled = [list(group) for group in groups if group]
    if parts > 1:
        filled = [filled[place] for place in rng("minibatch", *keys).permutation(len(filled))]
    count = max(1, min(parts, len(filled)))
    dealt: list[list[int]] = [[] for _ in range(count)]
    for number, group in enumerate(filled):
        dealt[number * count // len(filled)] += group
    return [sorted(members) for members in dealt if members]


def shares(rollouts: Sequence[Rollout], groups: Sequence[int], parts: int) -> list[list[int]]:
    """Deals numbers 0..n-1 to `parts` ranks, whole rollouts, about equal in tokens; some get none where there are few.

    groups: the group of each rollout. Members of a group stay together (at most parts - 1 groups are cut) and so do those of like length;
    a shared prompt counts once. Each share's numbers rise.
    """
    order = [number for numbers in _by_length(rollouts, groups) for number in numbers]
    costs = [max(1, _cost(rollouts[n], place > 0 and groups[order[place - 1]] == groups[n])) for place, n in enumerate(order)]
    return [sorted(order[place] for place in stretch) for stretch in cut_evenly(costs, parts)]


def micro_batches(rollouts: Sequence[Rollout], groups: Sequence[int], budget: int) -> list[list[int]]:
    """Cuts numbers 0..n-1 into lists whose tokens stay under `budget` (one rollout alone may exceed it).

    groups: the group of each rollout. Members of a group stay together as far as the budget allows, since they can share
    their prompt's computation; groups of like length are neighbours, so that padding is small. A shared prompt counts once.
    """
    out: list[list[int]] = []
    used = budget + 1
    for numbers in _by_length(rollouts, groups):
        for place, number in enumerate(numbers):
            shares = place > 0 and used <= budget
            cost = _cost(rollouts[number], shares)
            if used + cost > budget:
                out.append([])
                used, cost = 0, _cost(rollouts[number], False)
            out[-1].append(number)
            used += cost
    return out


def _by_length(rollouts: Sequence[Rollout], groups: Sequence[int]) -> list[list[int]]:
    """The members of each group, groups with short rollouts first."""
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    return sorted(members.values(), key=lambda numbers: (max(_cost(rollouts[n], False) for n in numbers), numbers[0]))


def _cost(rollout: Rollout, shares_prompt: bool) -> int:
    outputs = sum(len(turn.output_ids) for turn in rollout.turns)
    longest = max((len(turn.context_ids) for turn in rollout.turns), default=0)
    return outputs + (0 if shares_prompt else longest)
