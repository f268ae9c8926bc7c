"""Evaluation prompts inside the training set: what is measured on them is memory."""

from __future__ import annotations

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.words import quoted, share

FAULT = 0.01
"""A fault from this share of the evaluation prompts on; below, a warning."""


def diagnose(run: RunView) -> list[Finding]:
    """eval_in_train."""
    try:
        fact = run.fact("prompts")
        shared, asked, trained = int(fact["shared"]), int(fact["eval"]), int(fact["train"])
    except (KeyError, TypeError, ValueError):
        raise TooLittle("not measured: the run holds nothing out for evaluation, or start.json is missing") from None
    if not shared:
        return []
    examples = [quoted(str(text)) for text in fact.get("examples", [])]
    what = (
        "rows that are there twice: drop repeated prompts from data.path" if run.setting("eval.rows") else "eval.path: drop them from one"
    )
    return [
        Finding(
            "eval_in_train",
            "fault" if shared / max(1, asked) >= FAULT else "warning",
            f"{share(shared / max(1, asked))} of the evaluation prompts are in the training set: the evaluation overstates the model.",
            (f"{shared} of {asked} different evaluation prompts among {trained} training prompts", f"for example {', '.join(examples)}"),
            f"they come from {what}",
            cause=5,
        )
    ]
