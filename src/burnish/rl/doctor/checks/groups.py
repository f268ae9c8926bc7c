"""Rewards that are equal inside every group: nothing can be learned from them, for credit compares a group's rollouts with one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView, SampledGroup
from burnish.rl.doctor.words import enough, example, number, share

UNIFORM, CHANCE, MIN_GROUPS = 0.8, 0.5, 12
"""Alarm where so many groups are uniform although chance would make at most so many; from at least so many groups with differing texts."""


def diagnose(run: RunView) -> list[Finding]:
    """uniform_groups, or the notes saturated and few_comparisons."""
    enough(run, "rl", 3)
    groups = [group for group in run.groups if len(group.valid) > 1]
    if len(groups) < MIN_GROUPS:
        raise TooLittle(f"too little to tell: {len(groups)} groups of rollouts were kept, {MIN_GROUPS} are needed (rl.keep_rollouts)")
    values = {one.reward for group in groups for one in group.valid}
    if len(values) == 1:
        return _constant(run, groups, values.pop())
    diverse = [group for group in groups if len({one.ids for one in group.valid}) > 1]
    uniform = [group for group in diverse if _uniform(group)]
    found = len(uniform) / max(1, len(diverse))
    chance = by_chance(diverse) if diverse else 1.0
    if len(diverse) >= MIN_GROUPS and found >= UNIFORM and chance <= CHANCE:
        return [_fault(groups, diverse, uniform, chance)]
    return _note(groups)


def by_chance(groups: Sequence[SampledGroup]) -> float:
    """The share of uniform groups if every rollout drew its reward from the same distribution: the sum of q(value)^n over values."""
    counts = Counter(round(one.reward, 9) for group in groups for one in group.valid)
    total, size = sum(counts.values()), sum(len(group.valid) for group in groups) / len(groups)
    return sum((count / total) ** size for count in counts.values())


def _uniform(group: SampledGroup) -> bool:
    rewards = [one.reward for one in group.valid]
    return max(rewards) - min(rewards) < 1e-12


def _constant(run: RunView, groups: Sequence[SampledGroup], value: float) -> list[Finding]:
    known = [one.success for group in groups for one in group.valid if one.success is not None]
    n = sum(len(group.valid) for group in groups)
    if known and min(known) >= 1:
        return [
            Finding("saturated", "note", f"All {n} completions succeed: there is nothing left to learn here.", (), "take harder problems")
        ]
    kinds = len({one.ids for group in groups for one in group.valid})
    return [
        Finding(
            "uniform_groups",
            "fault",
            f"Every completion gets the same reward, {number(value)}, so no step can teach anything.",
            (f"{n} completions in {len(groups)} groups, {kinds} of them different, all with reward {number(value)}",
             example(groups[0], groups[0].valid[0])),
            "look at the completions above: if one is right, mend the reward (`burnish train ... --check` scores the reference answers); "
            "if none is, take easier problems or fine-tune first (stage sft)",
            cause=30,
        )
    ]  # fmt: skip


def _fault(groups: Sequence[SampledGroup], diverse: Sequence[SampledGroup], uniform: Sequence[SampledGroup], chance: float) -> Finding:
    shown = max(uniform, key=lambda group: len({one.ids for one in group.valid}))
    different = list({one.ids: one for one in shown.valid}.values())[:2]
    return Finding(
        "uniform_groups",
        "fault",
        f"Rewards are equal inside {share(len(uniform) / len(diverse))} of the groups whose completions differ: the reward depends on the "
        "problem rather than on what was written.",
        (
            f"{len(uniform)} of {len(diverse)} such groups (of {len(groups)} read); by chance it would be {share(chance)}",
            *(example(shown, one) for one in different),
        ),
        "let the reward read the completion (its first argument), and check it with `burnish train ... --check`",
        cause=24,
    )


def _note(groups: Sequence[SampledGroup]) -> list[Finding]:
    mixed = sum(not _uniform(group) for group in groups)
    if mixed / len(groups) >= 0.2:
        return []
    return [
        Finding(
            "few_comparisons",
            "note",
            f"Only {share(mixed / len(groups))} of the groups hold different rewards, and only those teach.",
            (f"{mixed} of {len(groups)} groups read",),
            "problems nearer to the edge of what the policy can do teach more: rl.curriculum difficulty_window, or rl.filters refill",
            cause=60,
        )
    ]
