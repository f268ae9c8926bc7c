"""Scoring: measured needs, rewards and shapers over the groups of one round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout
from burnish.rl.measure import Measurer, part_of
from burnish.rl.rewards.weighted import reward_name
from burnish.tasks.completions import Completions, checked_scores


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
        scores = checked_scores(reward_name(reward), reward(completions, share), item.id, members)
        for shaper in shapers:
            scores = checked_scores(reward_name(shaper), shaper.shape(completions, scores, share), item.id, members)
        out.append(Group(item=item, rollouts=members, scores=scores))
    return out
