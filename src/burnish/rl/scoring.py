"""Scoring: measured needs, rewards and shapers over the groups of one round."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout, Score
from burnish.rl.measure import Measured, Measurer, part_of
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


def score_groups(
    groups: Sequence[tuple[Item, list[Rollout]]], rewards: Sequence[Any], shapers: Sequence[Any], policy: Policy, measurer: Measurer
) -> list[Group]:
    """One `Group` for each item.

    What rewards and shapers need is measured under the weights that sampled, once for the whole round.
    Several rewards are added up; each one's share is kept in `Score.parts`.
    """
    needs = [need for part in (*rewards, *shapers) for need in getattr(part, "needs", ())]
    rollouts = [rollout for _, members in groups for rollout in members]
    measured = measurer.measure(rollouts, needs)
    out, start = [], 0
    for item, members in groups:
        share = part_of(measured, rollouts, start, start + len(members))
        start += len(members)
        texts = [policy.decode(rollout.output_ids) for rollout in members]
        completions = Completions(item=item, rollouts=members, texts=texts)
        scores = Combined(rewards)(completions, share)
        for shaper in shapers:
            scores = checked(shaper, shaper.shape(completions, scores, share), members)
        out.append(Group(item=item, rollouts=members, scores=scores))
    return out


@dataclasses.dataclass(frozen=True)
class Combined:
    """Several rewards as one: the sum, with each one's share in `Score.parts`."""

    rewards: Sequence[Any]

    @property
    def needs(self) -> tuple[Any, ...]:
        """What the rewards want measured."""
        return tuple(need for reward in self.rewards for need in getattr(reward, "needs", ()))

    def __call__(self, group: Completions, measured: Measured) -> list[Score]:
        """One Score for each rollout of the group."""
        return add_scores(
            [checked(reward, reward(group, measured), group.rollouts) for reward in self.rewards], self.rewards, len(group.rollouts)
        )


def checked(part: Any, scores: Any, rollouts: Sequence[Rollout]) -> list[Score]:
    """Refuses anything but one finite Score for each rollout."""
    name = part_name(part)
    if not isinstance(scores, list) or len(scores) != len(rollouts) or not all(isinstance(score, Score) for score in scores):
        got = f"{len(scores)} values" if isinstance(scores, list) else f"{type(scores).__name__}"
        raise UserError(f"reward {name} returned {got} for {len(rollouts)} rollouts; it must return a list with one Score for each")
    for score in scores:
        if not score.invalid and not abs(score.reward) < float("inf"):
            raise UserError(f"reward {name} returned {score.reward!r} for item {rollouts[0].item_id!r}; rewards must be finite numbers")
    return scores


def part_name(part: Any) -> str:
    """A reward's name in metrics and messages."""
    return str(getattr(part, "name", None) or getattr(part, "__name__", None) or type(part).__name__.lower())


def add_scores(all_scores: list[list[Score]], rewards: Sequence[Any], n: int) -> list[Score]:
    """The sum of several rewards; success is the first that is known; one invalid share makes the sum invalid."""
    if len(all_scores) == 1:
        return all_scores[0]
    if not all_scores:
        raise UserError("no reward is configured; name one under rl.rewards")
    out = []
    for index in range(n):
        shares = [scores[index] for scores in all_scores]
        known = [share.success for share in shares if share.success is not None]
        tokens = [share.token_rewards for share in shares if share.token_rewards is not None]
        weight = 1.0
        for share in shares:
            weight *= share.prompt_weight
        parts = {part_name(reward): share.reward for reward, share in zip(rewards, shares)}
        extras = {key: value for share in shares for key, value in share.extras.items()}
        out.append(
            Score(
                reward=sum(share.reward for share in shares),
                success=known[0] if known else None,
                token_rewards=sum(tokens[1:], start=tokens[0]) if tokens else None,
                prompt_weight=weight,
                parts={key: value for share in shares for key, value in share.parts.items()} | parts,
                invalid=any(share.invalid for share in shares),
                extras=extras,
            )
        )
    return out
