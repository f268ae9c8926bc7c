"""Reward that rises while success falls: the policy learned to please the reward, most often by length."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.trends import change
from burnish.rl.doctor.words import ends, enough, example, number

ERRORS, STEPS, DROP = 3.0, 12, 0.05
"""Rise and fall in standard errors of their own scatter; steps needed; smallest fall of success that counts."""


def diagnose(run: RunView) -> list[Finding]:
    """length_hack where length went along, reward_hack otherwise."""
    enough(run, "rl", STEPS)
    pairs = {name: run.series(name) for name in ("reward", "success", "completions/mean_length")}
    steps, reward = pairs["reward"]
    at, success = pairs["success"]
    if len(success) < STEPS or len(reward) < STEPS:
        raise TooLittle("success is unknown in this run (a verifier or rl.success_above gives it), so reward cannot be held against it")
    rise, fall = change(reward), change(success)
    if rise[1] < ERRORS or fall[1] > -ERRORS or fall[0] > -DROP:
        return []
    length = change(pairs["completions/mean_length"][1])
    by_length = abs(length[1]) >= ERRORS
    evidence = [
        ends(steps, reward, "reward"),
        ends(at, success, "success"),
        ends(*pairs["completions/mean_length"], "mean length in tokens"),
    ]
    link = correlation(run)
    if link is not None:
        evidence.append(f"inside groups, reward and length go together with a correlation of {number(link)}")
    wrong = [(group, one) for group, one in run.samples() if one.success == 0 and group.step >= run.steps - run.steps // 4]
    if wrong:
        evidence.append(example(*max(wrong, key=lambda pair: pair[1].reward)))
    what = "longer" if length[0] > 0 else "shorter"
    sentence = f"Reward rises while success falls: the policy is paid for {what} completions, not for right ones."
    return [
        Finding(
            "length_hack" if by_length else "reward_hack",
            "fault",
            sentence if by_length else "Reward rises while success falls: the policy is paid for something other than being right.",
            tuple(evidence),
            "take the share that pays for length out of rl.rewards or lower its weight (rl.weights)" + (
                "; rl.shapers overlong or cosine pay for length only where the answer is right" if by_length else ""),
            cause=35,
        )
    ]  # fmt: skip


def correlation(run: RunView) -> float | None:
    """Of reward and length, both less their group's mean; None where nothing varies."""
    rewards, sizes = [], []
    for group in run.groups:
        valid = group.valid
        if len(valid) > 1:
            rewards += [one.reward - sum(x.reward for x in valid) / len(valid) for one in valid]
            sizes += [one.size - sum(x.size for x in valid) / len(valid) for one in valid]
    if not rewards or np.std(rewards) < 1e-12 or np.std(sizes) < 1e-12:
        return None
    return float(np.corrcoef(rewards, sizes)[0, 1])
