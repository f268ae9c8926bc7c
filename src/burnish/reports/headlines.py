"""The headline numbers of a run: the same in report.html, in the terminal and on the model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from burnish.reports import words
from burnish.reports.run_files import RunFiles
from burnish.reports.timings import timings


@dataclasses.dataclass(frozen=True)
class Headline:
    """label and value as texts. interval: "[low, high]" of the value. was: the value at the start. note: one line below."""

    label: str
    value: str
    was: str = ""
    note: str = ""
    interval: str = ""

    def row(self) -> dict[str, str | None]:
        """As a row of a table."""
        value = f"{self.value} {self.interval}".rstrip()
        return {"measure": self.label, "value": value, "at the start": self.was or None, "note": self.note or None}


def headlines(run: RunFiles) -> list[Headline]:
    """What a reader wants to know first; numbers the run does not have are left out, never filled in."""
    found = [
        _held_out(run, "success"),
        _held_out(run, "reward"),
        *(_change(run, name, label) for name, label in CHANGES[run.stage or "rl"]),
    ]
    found += [_uniform(run), _steps(run), _time(run), _tokens(run), _memory(run)]
    return [headline for headline in found if headline is not None]


CHANGES: dict[str, tuple[tuple[str, str], ...]] = {
    "rl": (("reward", "Reward in training"), ("success", "Success in training")),
    "sft": (("eval/loss", "Held-out loss"), ("loss", "Training loss")),
}


def tenth(values: Sequence[float], end: bool) -> float:
    """Mean of the first or last tenth of the values (at least one)."""
    n = max(1, len(values) // 10)
    part = values[-n:] if end else values[:n]
    return sum(part) / len(part)


def _held_out(run: RunFiles, what: str) -> Headline | None:
    """Held-out success, or reward where it says more than success, with the 95 % interval before and after."""
    name = f"eval/{what}"
    steps, values = run.series(name)
    if not values or (what == "reward" and values == run.series("eval/success")[1]):
        return None
    rows = {row["step"]: row for row in run.metrics if name in row}
    ends = (rows[steps[0]], rows[steps[-1]])
    was, now = (words.interval(row[name], row.get(f"{name}_low"), row.get(f"{name}_high")) for row in ends)
    value, _, bounds = now.partition(" ")
    best = max(range(len(values)), key=values.__getitem__)
    note = ("95 % interval; " if bounds else "") + f"step {steps[-1]}"
    if best != len(values) - 1:
        note += f"; best {values[best]:.3f} at step {steps[best]}"
    return Headline(f"Held-out {what}", value, was=was if len(values) > 1 else "", note=note, interval=bounds)


def _change(run: RunFiles, name: str, label: str) -> Headline | None:
    values = run.series(name)[1]
    if not values:
        return None
    if name.startswith("eval/"):
        first, last, note = values[0], values[-1], "first and last evaluation" if len(values) > 1 else "one evaluation"
    else:
        first, last = tenth(values, end=False), tenth(values, end=True)
        n = max(1, len(values) // 10)
        note = f"mean of the first and last {n} steps" if n > 1 else "first and last step"
    return Headline(label, words.number(last), was=words.number(first) if len(values) > 1 else "", note=note)


def _uniform(run: RunFiles) -> Headline | None:
    values = run.series("frac_reward_zero_std")[1]
    if not values:
        return None
    uniform = sum(values) / len(values)
    note = f"all rewards equal: nothing to learn from; groups with variance: {words.share(1 - uniform)}; mean of all steps"
    return Headline("Uniform groups", words.share(uniform), note=note)


def _steps(run: RunFiles) -> Headline | None:
    if not run.metrics:
        return None
    total = run.total_steps
    value = f"{run.steps:,}" + (f" of {total:,}" if total else "")
    return Headline("Steps", value, note=f"newest checkpoint: step {max(run.checkpoints)}" if run.checkpoints else "no checkpoint yet")


def _time(run: RunFiles) -> Headline | None:
    values = run.series("time/step")[1]
    if not values:
        return None
    spent = timings(run)
    between = sum(part.seconds for part in spent.outside) if spent else 0.0
    note = f"{words.seconds(sum(values) / len(values))} a step" + (
        f"; evaluation and checkpoints {words.seconds(between)}" if between else ""
    )
    return Headline("Time", words.seconds(sum(values) + between), note=note)


def _tokens(run: RunFiles) -> Headline | None:
    total = run.last("num_tokens") or sum(run.series("num_tokens_step")[1])
    if not total:
        return None
    spent = sum(run.series("time/step")[1])
    return Headline("Tokens", words.number(total), note=f"{words.number(round(total / spent))} a second" if spent > 0 else "")


def _memory(run: RunFiles) -> Headline | None:
    values = run.series("memory/peak_mb")[1]
    return Headline("Peak memory", words.megabytes(max(values))) if values else None
