"""Rewards that are equal inside every group: nothing can be learned from them, for credit compares a group's rollouts with one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView, SampledGroup
from burnish.rl.doctor.words import enough, example, number, share

UNIFORM, CHANCE, MIN_GROUPS = 0.8, 0.5, 12
"""Alarm where so many groups are uniform although chance would make at most so many; from at least so many groups with differing texts."""

EDGE = "problems nearer to the edge of what the policy can do teach more: rl.curriculum difficulty_window, or rl.filters refill"


def diagnose(run: RunView) -> list[Finding]:
    """uniform_groups, or the notes saturated and few_comparisons."""
    enough(run, "rl", 3)
    groups = [group for group in run.groups if len(group.valid) > 1]
    if len(groups) < MIN_GROUPS:
        return _logged(run, len(groups))
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


def _logged(run: RunView, kept: int) -> list[Finding]:
    """Without rollouts: what the metrics say of the groups. Raises TooLittle where they do not say it either."""
    steps, uniform = run.series("frac_reward_zero_std")
    name = "frac_reward_zero_std"
    if len(uniform) < 3:
        name, (steps, spreads) = "reward_std", run.series("reward_std")
        uniform = [float(spread < 1e-12) for spread in spreads]
    if len(uniform) < 3:
        name, (steps, norms) = "grad_norm", run.series("grad_norm")
        if len(norms) < 3 or max(norms) > 0:  # a gradient may come from a penalty alone, so it clears nothing
            raise TooLittle(
                f"too little to tell: {kept} groups of rollouts were kept, {MIN_GROUPS} are needed (rl.keep_rollouts), and "
                "frac_reward_zero_std and reward_std were not logged"
            )
        uniform = [1.0] * len(norms)
    mean, size = float(np.mean(uniform)), int(run.setting("rl.group_size", 0) or 0)
    success, rewards = run.series("success")[1], run.series("reward")[1]
    if mean == 1 and success and min(success) >= 1:
        return [Finding("saturated", "note", "All completions succeed: there is nothing left to learn here.", (), "take harder problems")]
    right = float(np.mean(success)) if success else None
    chance = 1.0 if right is None or size < 2 else right**size + (1 - right) ** size
    if mean == 1 or (mean >= UNIFORM and chance <= CHANCE):
        return [_logged_fault(run, name, steps, mean, rewards)]
    if mean <= UNIFORM:
        return []
    sentence = f"Only {share(1 - mean)} of the groups hold different rewards, and only those teach."
    return [Finding("few_comparisons", "note", sentence, (f"{name} over {len(uniform)} steps",), EDGE, cause=60)]


def _logged_fault(run: RunView, name: str, steps: Sequence[int], mean: float, rewards: Sequence[float]) -> Finding:
    """All groups uniform: a fault. Most of them: a warning, for the metrics do not say whether completions differed."""
    evidence = [f"{name}: in {share(mean)} of the groups rewards are equal, over steps {steps[0]} to {steps[-1]}"]
    for metric in ("reward", "reward_std", "grad_norm"):
        at, values = run.series(metric)
        if values:
            evidence.append(f"{metric}: {number(min(values))} to {number(max(values))} over {len(at)} steps")
    same = bool(rewards) and max(rewards) - min(rewards) < 1e-12
    if name == "grad_norm":
        sentence = "The gradient is zero in every step, so no step can teach anything."
    elif mean < 1:
        sentence = f"Rewards are equal inside {share(mean)} of the groups: the reward depends on the problem, or completions hardly differ."
    elif same:
        sentence = f"Every completion gets the same reward, {number(rewards[0])}, so no step can teach anything."
    else:
        sentence = "Rewards are equal inside every group, so no step can teach anything."
    remedy = (
        "keep rollouts (rl.keep_rollouts) to see the completions; check the reward with `burnish train ... --check`, which scores the "
        "reference answers; if no completion is right, take easier problems or fine-tune first (stage sft)"
    )
    return Finding("uniform_groups", "fault" if mean == 1 else "warning", sentence, tuple(evidence), remedy, cause=30 if same else 24)


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
            EDGE,
            cause=60,
        )
    ]
