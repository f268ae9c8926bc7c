"""A learning rate that is too high: each update carries the policy too far, and what was learned is lost."""

from __future__ import annotations

import math

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.trends import change
from burnish.rl.doctor.words import ends, enough, late, number, share

KL, HARMFUL, FAR, PROBES = 0.15, 0.08, 0.5, 3
"""Nats per token that one update may move the policy, in the mean over the so many largest probed steps; where success falls, too; and
even where success rises (from the first to the third of them it is a note then)."""
FALL, UNENDED, ERRORS = 0.05, 0.3, 3.0
"""The fall of success (or reward) that counts, the rise of completions cut, and both in standard errors of their scatter."""
RISE, OVERSHOOT = 0.5, 0.05
"""Fine-tuning: nats that the loss may rise above its start; nats by which a step may raise the loss of its own examples."""


def diagnose(run: RunView) -> list[Finding]:
    """learning_rate, not_finite."""
    found = _not_finite(run)
    if run.stage == "sft":
        return found + _tuning(run)
    enough(run, "rl", 3)
    steps, moved = _per_update(run)
    if len(moved) < PROBES:
        if found:
            return found
        raise TooLittle(f"how far a step moves the policy was measured in fewer than {PROBES} steps")
    places = np.argsort(moved)[::-1][:PROBES]
    far, harm = float(np.mean([moved[place] for place in places])), _harm(run)
    if far <= (HARMFUL if harm else KL):
        return found
    evidence = [f"KL of single updates (nats per token): {', '.join(f'{number(moved[n])} (step {steps[n]})' for n in sorted(places))}"]
    for metric in ("success", "entropy", "completions/clipped_ratio"):
        at, values = run.series(metric)
        if len(values) >= 3:
            evidence.append(ends(at, values, metric))
    sentence = f"Single updates move the policy by {number(far)} nats per token{f', and {harm}' if harm else ''}."
    if not harm and far <= FAR and learns(run):
        sentence = f"Single updates move the policy far, by {number(far)} nats per token, but the run learns all the same."
        remedy = "nothing to mend while success rises; a lower rl.learning_rate risks less"
        return [*found, Finding("learning_rate", "note", sentence, tuple(evidence), remedy, cause=60)]
    return [*found, _fault("rl", run.setting("rl.learning_rate"), sentence, evidence)]


def _per_update(run: RunView) -> tuple[list[int], list[float]]:
    """KL of a step by its number of optimiser updates: probed after the step, else what the ratios of later updates show."""
    updates = dict(zip(*run.series("learner/updates")))
    for name in ("update/kl", "policy_kl/k3"):
        steps, moved = run.series(name)
        if len(moved) >= PROBES:
            return steps, [value / max(1.0, updates.get(step, 1.0)) for step, value in zip(steps, moved)]
    return [], []


def _harm(run: RunView) -> str:
    """What the run lost against its first steps: success (where unknown, reward), or the ends of its completions; "" for nothing."""
    signs = {"success": -FALL, "completions/clipped_ratio": UNENDED}
    if not run.series("success")[1]:
        signs = {"reward": -FALL} | signs
    for name, least in signs.items():
        values = run.series(name)[1]
        if len(values) < 6:
            continue
        difference, errors = change(values, first=2)
        if difference / least >= 1 and abs(errors) > ERRORS:
            return f"{name} falls" if least < 0 else "completions no longer end"
    return ""


def learns(run: RunView) -> bool:
    """Whether success (where unknown, reward) demonstrably rose over its first steps and did not come down from its peak again."""
    values = run.series("success")[1] or run.series("reward")[1]
    if len(values) < 6:
        return False
    difference, errors = change(values, first=2)
    n = len(late(values))
    means = [float(np.mean(values[at : at + n])) for at in range(len(values) - n + 1)]
    return difference >= FALL and errors > ERRORS and max(means) - means[-1] < difference / 3


def _tuning(run: RunView) -> list[Finding]:
    enough(run, "sft", 10)
    steps, loss = run.series("loss")
    probed, change = run.series("update/loss_change")
    if len(loss) < 10:
        raise TooLittle("the loss was logged in fewer than 10 steps")
    start, n = loss[0], max(3, len(loss) // 10)
    means = [float(np.mean(loss[at : at + n])) for at in range(1, len(loss) - n + 1)]
    peak = int(np.argmax(means))
    risen, worse = means[peak] - start, [value for value in change if value > OVERSHOOT]
    often = len(worse) / len(change) if change else 0.0
    if not (risen > max(RISE, 0.5 * start) or (len(worse) >= 2 and often >= 0.2)):
        return []
    evidence = [f"loss {number(start)} at step {steps[0]}, {number(means[peak])} over steps {steps[peak + 1]} to {steps[peak + n]}, "
                f"{number(loss[-1])} at step {steps[-1]}"]  # fmt: skip
    if change:
        top = int(np.argmax(change))
        evidence.append(
            f"{share(often)} of {len(change)} probed steps raised the loss of their own examples by more than {OVERSHOOT} nats a token "
            f"(most: {number(change[top])} at step {probed[top]})"
        )
    what = f"The loss rose by {number(risen)} nats above its start: " if risen > RISE else ""
    return [
        _fault("sft", run.setting("sft.learning_rate"), f"{what or 'Steps overshoot: '}the updates undo what the model knew.", evidence)
    ]


def _fault(stage: str, rate: object, sentence: str, evidence: list[str]) -> Finding:
    known = f"now {number(rate)}; try {number(rate / 10)}" if isinstance(rate, float) else "try a tenth"
    remedy = f"lower {stage}.learning_rate ({known}) or lengthen {stage}.warmup"
    return Finding("learning_rate", "fault", f"The learning rate is too high. {sentence}", tuple(evidence), remedy, cause=15)


def _not_finite(run: RunView) -> list[Finding]:
    bad = [(row["step"], name) for row in run.metrics for name in ("loss", "grad_norm") if _odd(row.get(name))]
    if not bad:
        return []
    return [
        Finding(
            "not_finite",
            "fault",
            f"{bad[0][1]} is not finite from step {bad[0][0]} on ({len({step for step, _ in bad})} steps).",
            (),
            f"lower {run.stage}.learning_rate, train in float32 (model.dtype), and resume from a checkpoint before step {bad[0][0]}",
            cause=14,
        )
    ]


def _odd(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
