"""A chat template without its generation prompt: the model is asked to answer before anyone said that it is its turn."""

from __future__ import annotations

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.words import example, quoted, share


def diagnose(run: RunView) -> list[Finding]:
    """generation_prompt: what the template adds to invite an answer against what precedes an answer in a whole conversation."""
    try:
        fact = run.fact("template")
        generation, header = str(fact["generation"]), str(fact["header"])
    except KeyError:
        if "unknown" in (run.start.get("template") or {}):
            raise TooLittle(f"the template could not be examined: {run.start['template']['unknown']}") from None
        raise TooLittle("not measured: the prompts are plain text, or start.json is missing") from None
    wanted, given = header.strip(), generation.strip()
    if not wanted or given.startswith(wanted):
        return _newline(generation, header)
    if not given:
        what = "The chat template has no generation prompt: prompts stop where the assistant's turn should be opened."
    elif wanted.startswith(given):
        what = f"The chat template's generation prompt is incomplete: it leaves out {quoted(wanted[len(given) :])}."
    else:
        what = "The chat template's generation prompt is not what precedes an answer in a whole conversation."
    evidence = [f"generation prompt: {quoted(generation)}; before an answer: {quoted(header)}"]
    missing = wanted[len(given) :] if wanted.startswith(given) else wanted
    opened = [(group, one) for group, one in run.samples() if one.text.lstrip().startswith(missing)]
    if opened:
        evidence.append(
            f"{share(len(opened) / sum(1 for _ in run.samples()))} of the completions begin by writing {quoted(missing)} themselves"
        )
        evidence.append(example(*opened[0]))
    remedy = (
        f"let the template write {quoted(header)} where add_generation_prompt is set: {{% if add_generation_prompt %}}...{{% endif %}} "
        "(chat_template.jinja beside the model), then train again"
    )
    return [Finding("generation_prompt", "fault", what, tuple(evidence), remedy, cause=10)]


def _newline(generation: str, header: str) -> list[Finding]:
    if not header.strip() or generation.strip() != header.strip() or generation == header or len(generation) > len(header):
        return []
    return [
        Finding(
            "generation_prompt",
            "warning",
            "The chat template's generation prompt lacks white space that precedes an answer in a whole conversation.",
            (f"generation prompt: {quoted(generation)}; before an answer: {quoted(header)}",),
            "end the generation prompt in the template exactly as an assistant message begins",
            cause=10,
        )
    ]
