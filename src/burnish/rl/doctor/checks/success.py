"""Success that falls while reward does not rise either: the run unlearns, whatever it is paid for."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.checks.hack import DROP, ERRORS, STEPS
from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.trends import change
from burnish.rl.doctor.words import ends, enough, number
from burnish.runs.errors import UserError
from burnish.tasks.eval_steps import load_successes

SAME = ("shuffled_epochs", "uniform")
"""Curricula whose late problems are like the early ones; under others a fall of success on the training problems says nothing."""


def diagnose(run: RunView) -> list[Finding]:
    """success_falls: on the training problems, or on the held-out ones, by more than `ERRORS` standard errors. A rising reward beside it is
    `reward_hack`'s."""
    enough(run, "rl", STEPS)
    steps, success = run.series("success")
    _, reward = run.series("reward")
    held_out = held_out_change(run)
    if len(success) < STEPS and held_out is None:
        raise TooLittle("success is unknown in this run (a verifier or rl.success_above gives it), or was logged in too few steps")
    if len(reward) >= STEPS and change(reward)[1] >= ERRORS:
        return []
    evidence = []
    if len(success) >= STEPS and _alike(run):
        difference, errors = change(success)
        if difference <= -DROP and errors <= -ERRORS:
            evidence.append(f"{ends(steps, success, 'success')}: a fall of {number(-errors)} standard errors of its scatter")
    if held_out is not None:
        first, last, difference, error, n = held_out
        if difference <= -DROP and difference <= -ERRORS * error:
            evidence.append(
                f"eval/success: {number(difference)} from step {first} to step {last} on the same {n} prompts "
                f"(95 %: {number(difference - 1.96 * error)} to {number(difference + 1.96 * error)})"
            )
        elif difference >= ERRORS * error > 0:  # what training draws became harder
            return []
    if not evidence:
        return []
    if reward:
        evidence.append(ends(*run.series("reward"), "reward"))
    entropy = run.series("entropy")
    if len(entropy[1]) >= 3:
        evidence.append(ends(*entropy, "entropy (nats per token)"))
    sentence = "Success falls and reward does not rise: the updates take away what the policy could do and give nothing for it."
    remedy = (
        "check that the reward follows success (`burnish train ... --check` scores the reference answers); if it does, lower "
        "rl.learning_rate or hold the policy to its start (rl.objective {preset: ..., kl: ...}), and take an earlier checkpoint"
    )
    return [Finding("success_falls", "warning", sentence, tuple(evidence), remedy, cause=45)]


def held_out_change(run: RunView) -> tuple[int, int, float, float, int] | None:
    """(first step, last step, change of the mean pass rate, its standard error over prompts, prompts); None where items are not known."""
    try:
        found = load_successes(run.path)
    except UserError as error:
        run.problems.append(str(error))
        return None
    steps = sorted(found)
    if len(steps) < 2:
        return None
    first, last = found[steps[0]].rates(), found[steps[-1]].rates()
    moved = [last[name] - rate for name, rate in first.items() if name in last]
    if len(moved) < 20:
        return None
    return steps[0], steps[-1], float(np.mean(moved)), float(np.std(moved, ddof=1) / len(moved) ** 0.5), len(moved)


def _alike(run: RunView) -> bool:
    """Metrics are of all rollouts drawn, whatever filters keep, so only the curriculum matters."""
    curriculum = run.setting("rl.curriculum", SAME[0])
    name = curriculum.get("name") if isinstance(curriculum, dict) else curriculum
    return name in SAME
