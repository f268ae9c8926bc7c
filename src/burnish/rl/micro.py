"""How one optimiser step is cut: into mini-batches of whole groups, and those into micro-batches of whole rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.records import Rollout
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


def micro_batches(rollouts: Sequence[Rollout], groups: Sequence[int], budget: int) -> list[list[int]]:
    """Cuts numbers 0..n-1 into lists whose tokens stay under `budget` (one rollout alone may exceed it).

    groups: the group of each rollout. Members of a group stay together as far as the budget allows, since they can share
    their prompt's computation; groups of like length are neighbours, so that padding is small. A shared prompt counts once.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    order = sorted(members.values(), key=lambda numbers: (max(_cost(rollouts[n], False) for n in numbers), numbers[0]))
    out: list[list[int]] = []
    used = budget + 1
    for numbers in order:
        for place, number in enumerate(numbers):
            shares = place > 0 and used <= budget
            cost = _cost(rollouts[number], shares)
            if used + cost > budget:
                out.append([])
                used, cost = 0, _cost(rollouts[number], False)
            out[-1].append(number)
            used += cost
    return out


def _cost(rollout: Rollout, shares_prompt: bool) -> int:
    outputs = sum(len(turn.output_ids) for turn in rollout.turns)
    longest = max((len(turn.context_ids) for turn in rollout.turns), default=0)
    return outputs + (0 if shares_prompt else longest)
