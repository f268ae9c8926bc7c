"""Reward that rises while success falls: the policy learned to please the reward, most often by length."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.trends import change
from burnish.rl.doctor.words import ends, enough, example, late, number

ERRORS, STEPS, DROP = 3.0, 12, 0.05
"""Rise and fall in standard errors of their own scatter; steps needed; smallest fall of success that counts."""
LINK, STUCK = 0.7, 0.5
"""Where success does not fall but stays under the second: the correlation of reward and length inside groups that says the same."""


def diagnose(run: RunView) -> list[Finding]:
    """length_hack where length went along, reward_hack otherwise."""
    enough(run, "rl", STEPS)
    pairs = {name: run.series(name) for name in ("reward", "success", "completions/mean_length")}
    steps, reward = pairs["reward"]
    at, success = pairs["success"]
    if len(success) < STEPS or len(reward) < STEPS:
        raise TooLittle("success is unknown in this run (a verifier or rl.success_above gives it), so reward cannot be held against it")
    rise, fall = change(reward), change(success)
    if rise[1] < ERRORS:
        return []
    lengths, link = change(pairs["completions/mean_length"][1]), correlation(run)
    falls = fall[1] <= -ERRORS and fall[0] <= -DROP
    towards = 1.0 if link is None and falls else (link or 0.0) * float(np.sign(lengths[0]))
    by_length = abs(lengths[1]) >= ERRORS and towards > (0.0 if falls else LINK)
    if not falls and (not by_length or fall[1] > 0 or float(np.mean(late(success))) > STUCK or _shaped(run)):
        return []
    evidence = [
        ends(steps, reward, "reward"),
        ends(at, success, "success"),
        ends(*pairs["completions/mean_length"], "mean length in tokens"),
    ]
    if link is not None:
        evidence.append(f"inside groups, reward and length go together with a correlation of {number(link)}")
    wrong = [(group, one) for group, one in run.samples() if one.success == 0 and group.step >= run.steps - run.steps // 4]
    if wrong:
        evidence.append(example(*max(wrong, key=lambda pair: pair[1].reward)))
    sentence = f"Reward rises while success {'falls' if falls else 'does not'}: the policy is paid for " + (
        f"{'longer' if lengths[0] > 0 else 'shorter'} completions, not for right ones."
        if by_length
        else "something other than being right."
    )
    remedy = "take the share that pays for it out of rl.rewards or lower its weight (rl.weights)"
    if by_length:
        remedy += "; rl.shapers overlong or cosine bound what length can earn"
    name, severity = "length_hack" if by_length else "reward_hack", "fault" if falls else "warning"
    return [Finding(name, severity, sentence, tuple(evidence), remedy, cause=35)]  # type: ignore[arg-type]


def _shaped(run: RunView) -> bool:
    """Whether the run is meant to pay for length."""
    return any(name in str(run.setting(place, "")) for place in ("rl.rewards", "rl.shapers") for name in ("overlong", "cosine"))


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
