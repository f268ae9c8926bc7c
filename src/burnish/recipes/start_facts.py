"""start.json: facts of a run's data, template and limits, taken down at its start for `burnish doctor`; they change nothing in the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from burnish.data.examples import Example
from burnish.models.policy import Policy
from burnish.models.template import render_text
from burnish.records import Item
from burnish.runs import atomic
from burnish.runs.folder import Run

SHOWN, MEASURED = 3, 512
"""Shared prompts shown as examples; reference answers whose tokens are counted."""

GOLD = ("completion", "answer", "solution", "ground_truth", "target")
"""Columns that may hold a reference answer, in order of preference."""


def reference(item: Item) -> str | None:
    """The item's reference answer as text, from the first column that holds one."""
    found = named_reference(item)
    return None if found is None else found[1]


def named_reference(item: Item) -> tuple[str, str] | None:
    """(column, text) of the same."""
    for name in GOLD:
        value = item.columns.get(name)
        if isinstance(value, list) and value and isinstance(value[-1], dict):
            value = value[-1].get("content")
        if isinstance(value, str | int | float):
            return name, str(value)
    return None


def write_start(run: Run, config: Any, policy: Policy, rows: Sequence[Any], held_out: Sequence[Any] | None, train: Sequence[Any]) -> None:
    """Writes `start.json`. A fact that cannot be had is written as {"unknown": why}: it must never stop a run."""
    args = config.model.template_args
    facts: dict[str, Callable[[], Any]] = {
        "prompts": lambda: shared_prompts(rows, held_out),
        "template": lambda: template_facts(policy, rows, args),
        "ends": lambda: loss_on_ends(train, policy.eos_ids) if config.stage == "sft" else None,
        "references": lambda: reference_lengths(train, policy) if config.stage == "rl" else None,
    }
    found = {name: value for name, make in facts.items() if (value := _tried(make)) is not None}
    atomic.write_text(run.path / "start.json", json.dumps(found, indent=1) + "\n")


def _tried(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Exception as error:  # whatever a user's template or column does
        return {"unknown": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def shared_prompts(rows: Iterable[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """How many different held-out prompts there are, and how many of them stand in the training rows too; None without held-out rows.

    Two prompts are the same where they differ in white space and capitals only.
    """
    if not held_out:
        return None
    asked: dict[str, str] = {}
    for row in held_out:
        text = prompt_text(row)
        asked.setdefault(normal(text), text)
    trained = {normal(prompt_text(row)) for row in rows}
    shared = [text for key, text in asked.items() if key in trained]
    return {"train": len(trained), "eval": len(asked), "shared": len(shared), "examples": [text[:300] for text in shared[:SHOWN]]}


def prompt_text(row: Mapping[str, Any]) -> str:
    """What a row asks: its prompt; of a whole conversation, what precedes its last assistant message; else its text."""
    value = row.get("prompt")
    if value is None and isinstance(row.get("messages"), list):
        value = list(row["messages"])
        while value and value[-1].get("role") == "assistant":
            value.pop()
    if isinstance(value, list):
        return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in value)
    return str(row.get("text", "")) if value is None else str(value)


def normal(text: str) -> str:
    """Without differences of white space and capitals."""
    return " ".join(text.split()).casefold()


def template_facts(policy: Policy, rows: Sequence[Mapping[str, Any]], args: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the chat template writes to invite an answer, and what stands before an answer in a whole conversation.

    generation: what `add_generation_prompt` adds. header: what precedes the assistant's words, thinking left out. None for text prompts.
    """
    chat = next((row for row in rows[:1] if isinstance(row.get("prompt", row.get("messages")), list)), None)
    if chat is None:
        return None
    question = [{"role": "user", "content": "7f3a"}]
    plain = render_text(policy.tokenizer, question, add_generation_prompt=False, **args)
    asked = render_text(policy.tokenizer, question, add_generation_prompt=True, **args)
    whole = render_text(policy.tokenizer, [*question, {"role": "assistant", "content": "9b2c"}], add_generation_prompt=False, **args)
    if not (asked.startswith(plain) and whole.startswith(plain) and "9b2c" in whole):
        return {"unknown": "the template does not write a conversation message by message"}
    return {"generation": asked[len(plain) :], "header": whole[len(plain) : whole.index("9b2c", len(plain))].split("<think")[0]}


def loss_on_ends(examples: Sequence[Example], eos_ids: Sequence[int]) -> dict[str, Any]:
    """share: of the examples whose last loss token is an end-of-sequence token. without: places of some that lack it."""
    ends = set(eos_ids)
    without = [one.where for one in examples if not any(token in ends for token, flag in zip(one.ids[::-1], one.mask[::-1]) if flag)]
    return {"examples": len(examples), "share": 1 - len(without) / max(1, len(examples)), "without": without[:SHOWN]}


def reference_lengths(items: Sequence[Item], policy: Policy) -> dict[str, Any] | None:
    """Tokens of the reference answers (without the end): how many were counted, and quantiles; None where no item has one.

    column: where the first came from; only a "completion" is all that the model is to write.
    """
    found = [pair for item in items[: MEASURED * 4] if (pair := named_reference(item)) is not None][:MEASURED]
    if not found:
        return None
    sizes = sorted(len(policy.tokenizer(text, add_special_tokens=False)["input_ids"]) for _, text in found)
    shares = {"0": 0.0, "50": 0.5, "90": 0.9, "100": 1.0}
    return {
        "column": found[0][0],
        "counted": len(sizes),
        "tokens": {name: sizes[math.ceil(share * (len(sizes) - 1))] for name, share in shares.items()},
    }
