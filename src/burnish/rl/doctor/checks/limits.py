"""Completions cut at the limit, and ends that are never learned: both show as cut completions, and differ in what an answer needs."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.finding import Finding, Severity, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.words import ends, enough, example, late, number, share

CUT, FAULT = 0.3, 0.5
"""A warning from so many completions cut on, a fault from so many on (means over the run); a note where it mended itself."""
FITS = 0.7
"""An answer whose typical length is under this share of the limit had room to end."""
LOST, LOST_FAULT = 0.02, 0.2
"""Fine-tuning: shares of examples cut, or without an end in their loss, for a warning and a fault."""


def diagnose(run: RunView) -> list[Finding]:
    """completions_cut, eos_not_learned."""
    return _tuning(run) if run.stage == "sft" else _sampling(run)


def _sampling(run: RunView) -> list[Finding]:
    enough(run, "rl", 3)
    steps, clipped = run.series("completions/clipped_ratio")
    if len(clipped) < 3:
        raise TooLittle("completions/clipped_ratio was not logged")
    now, lately = float(np.mean(clipped)), float(np.mean(late(clipped)))
    if now < CUT or min(clipped[:2]) < CUT / 2:  # what comes later is brought about by the updates, and told elsewhere
        return []
    limit, needed, source = _room(run)
    cut = next(((group, one) for group, one in reversed(list(run.samples())) if not one.ended), None)
    shown = (example(*cut),) if cut else ()
    evidence = (ends(steps, clipped, "share of completions cut"), *source, *shown)
    severity: Severity = "note" if lately < CUT / 3 else "fault" if now >= FAULT else "warning"
    if limit and needed is not None and needed < FITS * limit:
        return [
            Finding(
                "eos_not_learned",
                severity,
                f"{share(now)} of the completions do not end by themselves although answers are short: the model has not learned to write "
                "its end-of-sequence token.",
                evidence,
                "fine-tune first (stage sft) on examples whose end carries loss (`burnish train ... --check` shows it), check the "
                "tokenizer's eos_token, or give sampling.stop",
                cause=20,
            )
        ]
    either = (
        "" if needed is not None else " (or the model never learned to end: no completion and no reference shows how long an answer is)"
    )
    return [
        Finding(
            "completions_cut",
            severity,
            f"{share(now)} of the completions are cut at the limit of {limit or '?'} tokens before they end{either}.",
            evidence,
            f"raise rl.max_new_tokens{f' (now {limit})' if limit else ''}, or shape the length (rl.shapers overlong)",
            cause=22,
        )
    ]


def _room(run: RunView) -> tuple[int | None, float | None, tuple[str, ...]]:
    """(limit, tokens that an answer needs with its end, how that is known)."""
    limit = run.setting("rl.max_new_tokens")
    limit = limit if isinstance(limit, int) else None
    try:
        fact = run.fact("references")
        half, column = float(fact["tokens"]["50"]) + 1, fact.get("column", "")
    except (KeyError, TypeError, ValueError):
        half, column = None, ""
    ended = [one.size for _, one in run.samples() if one.ended]
    if half is not None and limit and half > limit:
        return limit, half, (f"half of the reference answers need {number(half)} tokens or more with their end; the limit is {limit}",)
    if half is not None and column == "completion":  # all that is to be written: better than what happened to end
        return limit, half, (f"half of the reference completions need {number(half)} tokens or fewer with their end; the limit is {limit}",)
    if len(ended) >= 10:
        middle = float(np.median(ended))
        return (
            limit,
            middle,
            (f"the {len(ended)} completions read that did end have {number(middle)} tokens (median); the limit is {limit}",),
        )
    return limit, None, (f"{len(ended)} of the completions read ended by themselves",)


def _tuning(run: RunView) -> list[Finding]:
    out = []
    report = run.data.get("train") or {}
    kept, read = report.get("kept") or 0, report.get("read") or 0
    notes = report.get("notes") or {}
    truncated = notes.get("truncated", 0)
    dropped = sum("fit" in str(one.get("reason", "")) for one in report.get("skipped") or [])
    lost = (truncated + dropped) / read if read else 0.0
    if lost >= LOST:
        what = f"{truncated} cut" if truncated else f"{dropped} left out"
        out.append(
            Finding(
                "completions_cut",
                "fault" if lost >= LOST_FAULT else "warning",
                f"{share(lost)} of the training examples are longer than sft.max_length: {what}"
                + (", which also loses their end-of-sequence token." if truncated else "."),
                (f"{read} rows read, {kept} kept, {truncated} truncated, {dropped} too long and left out (data.json)",),
                "raise sft.max_length, or shorten the data",
                cause=18,
            )
        )
    try:
        fact = run.fact("ends")
    except KeyError:
        if out:
            return out
        raise TooLittle("start.json does not say which examples end in a token with loss") from None
    if fact["share"] < 1 - LOST:
        without = 1 - fact["share"]
        out.append(
            Finding(
                "eos_not_learned",
                "fault" if without >= LOST_FAULT else "warning",
                f"In {share(without)} of the training examples no end-of-sequence token carries loss: stopping is not learned there.",
                (f"{fact['examples']} examples; without an end for example: {', '.join(map(str, fact.get('without', [])))}",),
                "mend the chat template so that its assistant marks include the end-of-turn token, raise sft.max_length where rows are cut "
                "and look at `burnish train ... --check`",
                cause=20,
            )
        )
    return out
