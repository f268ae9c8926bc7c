"""What ranks share out in reinforcement learning: thinking and scoring by drawn items, measuring by rollouts. All get all results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from burnish.models.needs import Need
from burnish.records import Group, Item, Rollout, Score
from burnish.rl.measure import Measured, Measurer
from burnish.rl.micro import shares
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.scoring import score_groups
from burnish.runs import ranks
from burnish.runs.errors import UserError
from burnish.runs.ranks import Ranks


def shared_round(source: Any, here: Ranks, drawn: Sequence[Item], items: Sequence[Item], step: int, number: int) -> list[Group]:
    """The groups of `drawn`, the same on all ranks and in the same order as with one process. items: `distinct(drawn)`.

    Rank r thinks about the items r, r + world, ... Rewards and shapers without a state score each rank's own groups (and have their
    needs measured there); where one keeps a state, the main rank scores all of them, so that its state is that of one process.
    """
    places = list(range(here.rank, len(items), here.world))
    with source.timer("generate"):
        found = source.rollouts_of([items[place] for place in places], step, number)
    mine = [(drawn[place], found[items[place].id]) for place in places]
    scored = None
    if not keeps_state((source.reward, *source.shapers)):
        with source.timer("score"):
            scored = _scores(score_groups(mine, source.reward, source.shapers, source.policy, source.measurer)) if mine else []
    rollouts = [[rollout.to_dict() for rollout in members] for _, members in mine]
    with source.timer("gather"):
        heard = [
            json.loads(text) for text in here.gather(json.dumps({"ids": [one.id for one in items], "rollouts": rollouts, "scores": scored}))
        ]
    if any(one["ids"] != heard[0]["ids"] for one in heard):
        raise UserError(
            f"the ranks drew different items at step {step}: the curriculum {type(source.curriculum).__name__} must draw from its state, "
            "the step and the seed it is given, not from a global random generator"
        )
    order = sorted((place, rank, at) for rank in range(here.world) for at, place in enumerate(range(rank, len(items), here.world)))
    groups = [(drawn[place], [Rollout.from_dict(one) for one in heard[rank]["rollouts"][at]]) for place, rank, at in order]
    source.refuse_errors([rollout for _, members in groups for rollout in members], step)
    needs = [need for part in (source.reward, *source.shapers) for need in getattr(part, "needs", ())]
    elsewhere = [one for place, (_, members) in enumerate(groups) if (place not in places if scored is not None else not here.is_main)
                 for one in members]  # fmt: skip
    count_passes(source.measurer, elsewhere, needs)
    if scored is None:
        return _scored_by_main(source, here, groups)
    marks = [heard[rank]["scores"][at] for _, rank, at in order]
    return [Group(item, members, [Score.from_dict(one) for one in row]) for (item, members), row in zip(groups, marks)]


def keeps_state(scorers: Sequence[Any]) -> bool:
    """Whether a reward or shaper (or a share of a sum of rewards) has a state that its calls may move.

    That of a plain function is only told the step, on all ranks alike.
    """
    members = [one for scorer in scorers for one in getattr(scorer, "rewards", (scorer,))]
    return any(hasattr(one, "state_dict") and not isinstance(one, TRLReward) for one in members)


def measured_by_all(measurer: Measurer, rollouts: Sequence[Rollout], prompts: Sequence[int], needs: Sequence[Need]) -> Measured:
    """`measurer.measure(rollouts, needs)`, each rank measuring its share. prompts: the group of each rollout. One process: just that."""
    here = ranks.current()
    if here.world == 1:
        return measurer.measure(rollouts, needs)
    parts = shares(rollouts, prompts, here.world)
    mine = parts[here.rank]
    found = measurer.measure([rollouts[n] for n in mine], needs) if mine else {}
    count_passes(measurer, [rollouts[n] for rank, part in enumerate(parts) if rank != here.rank for n in part], needs)
    return laid_out(here.gather(dict(found)), parts, [rollout.n_loss_tokens for rollout in rollouts])


def laid_out(found: Sequence[Measured], parts: Sequence[Sequence[int]], sizes: Sequence[int]) -> Measured:
    """One result of all shares' results. parts: the rollouts of each share. sizes: loss tokens of each rollout."""
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    index = [torch.cat([torch.arange(starts[n], starts[n + 1]) for n in part] or [torch.arange(0)]) for part in parts]
    out: Measured = {}
    for key, first in next((one for one in found if one), {}).items():
        shown = [(one[key], places, part) for one, places, part in zip(found, index, parts) if part]
        if isinstance(first, Tensor):
            out[key] = torch.zeros(starts[-1], dtype=first.dtype)
            for values, places, _ in shown:
                out[key][places] = values
        else:
            entries = {n: value for values, _, part in shown for n, value in zip(part, values)}
            out[key] = [entries[n] for n in range(len(sizes))]
    return out


def merged_metrics(metrics: dict[str, float]) -> dict[str, float]:
    """The same on all ranks: a metric that differs between ranks (each saw its share) is averaged over those that have it."""
    here = ranks.current()
    if here.world == 1:
        return metrics
    found = here.gather(metrics)
    out: dict[str, float] = {}
    for key in dict.fromkeys(key for row in found for key in row):
        values = [row[key] for row in found if key in row]
        out[key] = values[0] if all(value == values[0] for value in values) else sum(values) / len(values)
    return out


def count_passes(measurer: Measurer, rollouts: Sequence[Rollout], needs: Sequence[Need]) -> None:
    """Tells the Measurer's observer of passes that other processes made: its totals are those of the whole run."""
    if measurer.observe is None or not rollouts:
        return
    for model, context in dict.fromkeys((need.model, need.context) for need in needs):
        seen = [context(one) if context else one for one in rollouts]
        measurer.observe(measurer.models[model].model, seen, measurer.share_prefix)


def _scored_by_main(source: Any, here: Ranks, groups: Sequence[tuple[Item, list[Rollout]]]) -> list[Group]:
    rows = None
    if here.is_main:
        with source.timer("score"):
            rows = _scores(score_groups(groups, source.reward, source.shapers, source.policy, source.measurer))
    with source.timer("gather"):
        rows = json.loads(here.broadcast(json.dumps(rows)))
    return [Group(item, members, [Score.from_dict(one) for one in row]) for (item, members), row in zip(groups, rows)]


def _scores(groups: Sequence[Group]) -> list[list[dict[str, Any]]]:
    return [[score.to_dict() for score in group.scores] for group in groups]
