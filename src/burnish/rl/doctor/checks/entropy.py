"""Entropy collapse: the policy writes nearly the same again and again, before it has learned to write what is right."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView, SampledGroup
from burnish.rl.doctor.words import early, ends, enough, example, late, number, share

FALL, ALIKE, SOLVED = 0.3, 0.25, 0.9
"""Entropy at most this share of its beginning, at most this share of a group's completions distinct, success below this."""


def diagnose(run: RunView) -> list[Finding]:
    """entropy_collapse."""
    enough(run, "rl", 8)
    name = "entropy" if len(run.series("entropy")[1]) >= 8 else "sampling/surprise"
    steps, entropy = run.series(name)
    if len(entropy) < 8:
        raise TooLittle("neither entropy nor surprise was logged in 8 steps")
    before, now = float(np.mean(early(entropy))), float(np.mean(late(entropy)[-5:]))
    success = run.series("success")[1] or run.series("reward")[1]
    first, last = float(np.mean(early(success))), float(np.mean(late(success)[-5:]))
    if now > FALL * before or last >= SOLVED or not success:
        return []
    # What is gone of the entropy may be gone because the failures are: that is learning.
    if 1 - last < 2 * (now / before) * (1 - first):
        return []
    recent = [group for group in run.groups if group.step >= run.steps - max(5, run.steps // 4) and len(group.samples) > 1]
    alike = float(np.mean([distinct(group) for group in recent])) if recent else None
    if alike is not None and alike > ALIKE:
        return []
    evidence = [
        ends(steps, entropy, f"{name} (nats per token)"),
        ends(*run.series("success" if run.series("success")[1] else "reward"), "success"),
    ]
    if recent:
        shown = min(recent, key=distinct)
        evidence.append(f"in the last steps {share(alike or 0.0)} of a group's completions differ from its first")
        evidence.append(f"{len(shown.samples)} times: {example(shown, shown.samples[0])}")
    return [
        Finding(
            "entropy_collapse",
            "fault",
            f"The entropy collapsed to {share(now / before)} of its beginning while success is only {number(last)}: the policy no longer "
            "tries anything else, so it cannot learn more.",
            tuple(evidence),
            "raise the entropy bonus (rl.objective {preset: ..., entropy: {eta: 0.01}}), clip higher (dapo's clip_high), lower "
            "rl.learning_rate, or sample hotter (sampling.temperature)",
            cause=40,
        )
    ]


def distinct(group: SampledGroup) -> float:
    """(different completions - 1) / (completions - 1): 0 where all are the same, 1 where no two are."""
    return (len({one.ids for one in group.samples}) - 1) / (len(group.samples) - 1)
