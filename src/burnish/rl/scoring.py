"""Scoring: measured needs, rewards and shapers over the groups of one round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout, Score
from burnish.rl.measure import Measurer, part_of
from burnish.rl.rewards.weighted import reward_name
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


def score_groups(
    groups: Sequence[tuple[Item, list[Rollout]]], reward: Any, shapers: Sequence[Any], policy: Policy, measurer: Measurer
) -> list[Group]:
    """One `Group` for each item.

    What reward and shapers need is measured under the weights that sampled, once for the whole round.
    """
    needs = [need for part in (reward, *shapers) for need in getattr(part, "needs", ())]
    rollouts = [rollout for _, members in groups for rollout in members]
    measured = measurer.measure(rollouts, needs)
    out, start = [], 0
    for item, members in groups:
        share = part_of(measured, rollouts, start, start + len(members))
        start += len(members)
        texts = [policy.decode(rollout.output_ids) for rollout in members]
        completions = Completions(item=item, rollouts=members, texts=texts)
        scores = checked(reward, reward(completions, share), members)
        for shaper in shapers:
            scores = checked(shaper, shaper.shape(completions, scores, share), members)
        out.append(Group(item=item, rollouts=members, scores=scores))
    return out


def checked(part: Any, scores: Any, rollouts: Sequence[Rollout]) -> list[Score]:
    """Refuses anything but one finite Score for each rollout."""
    name = reward_name(part)
    if not isinstance(scores, list) or len(scores) != len(rollouts) or not all(isinstance(score, Score) for score in scores):
        got = f"{len(scores)} values" if isinstance(scores, list) else f"{type(scores).__name__}"
        raise UserError(f"reward {name} returned {got} for {len(rollouts)} rollouts; it must return a list with one Score for each")
    for score in scores:
        if not score.invalid and not abs(score.reward) < float("inf"):
            raise UserError(f"reward {name} returned {score.reward!r} for item {rollouts[0].item_id!r}; rewards must be finite numbers")
    return scores
