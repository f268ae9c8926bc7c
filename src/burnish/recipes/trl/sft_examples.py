"""Examples for SFTTrainer, encoded as TRL encodes them: prompt and completion as one text, cut at max_length."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from burnish.data.conversation import assistants, chosen_examples
from burnish.data.examples import Example, Examples
from burnish.data.rows import Report, Rows
from burnish.models import template
from burnish.runs.errors import UserError


def to_trl_examples(rows: Rows, policy: Any, args: Any) -> Examples:
    """Examples of "text", "messages" and "prompt_completion" rows.

    Loss: on the completion where completion_only_loss says so (unset: for rows with prompt and completion), on the assistant's messages
    with assistant_only_loss, on every token otherwise. The completion starts where the ids of the prompt and of the whole part.
    Texts end with the tokenizer's end-of-sequence token, which is added where it is missing. Longer examples are cut to max_length, at
    the end or the start (truncation_mode), and dropped where no loss token is left; both are counted in the report.
    Raises UserError for rows that the template refuses, and where nothing is left.
    """
    if rows.format == "prompt":
        raise UserError(f"{rows.report.source}: there is no column 'completion' to learn from; columns there: {', '.join(rows.columns)}")
    out = Examples()
    out.report = Report(rows.report.source, read=len(rows))
    limit = min(args.max_length or policy.max_length or 10**9, policy.max_length or 10**9)
    for row, where in zip(rows, rows.where):
        ids, mask = _encoded(row, rows.format, policy.tokenizer, args, where)
        if len(ids) > limit:
            cut = slice(None, limit) if args.truncation_mode == "keep_start" else slice(-limit, None)
            ids, mask = ids[cut], mask[cut]
            out.report.notes["truncated"] = out.report.notes.get("truncated", 0) + 1
        example = Example(ids, mask, where)
        if not mask.any():
            out.report.notes["no token to learn from"] = out.report.notes.get("no token to learn from", 0) + 1
        elif example.n_loss_tokens:
            out.append(example)
    out.report.kept = len(out)
    if not out:
        raise UserError(f"{rows.report.source}: no example is left after cutting to max_length {limit}; raise max_length")
    return out


def _encoded(row: Mapping[str, Any], kind: str, tokenizer: Any, args: Any, where: str) -> tuple[list[int], np.ndarray]:
    if args.assistant_only_loss and (kind == "text" or isinstance(row.get("prompt"), str)):
        raise UserError(f"{where}: assistant_only_loss is for rows of messages; leave it out")
    try:
        if kind == "text":
            ids = tokenizer(_ended(row["text"], tokenizer))["input_ids"]
            return list(ids), np.ones(len(ids), dtype=bool)
        if kind == "messages":
            return _conversation(row["messages"], row, tokenizer, args.assistant_only_loss)
        return _completion(row, tokenizer, args)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _completion(row: Mapping[str, Any], tokenizer: Any, args: Any) -> tuple[list[int], np.ndarray]:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        head = tokenizer(prompt)["input_ids"]
        ids = list(tokenizer(prompt + _ended(row["completion"], tokenizer))["input_ids"])
        mask = np.ones(len(ids), dtype=bool)
    else:
        tools, more = _template_args(row)
        head = template.render(tokenizer, prompt, tools, add_generation_prompt=True, **more)
        ids, mask = _conversation([*prompt, *row["completion"]], row, tokenizer, args.assistant_only_loss)
    if args.completion_only_loss is not False:
        mask = mask.copy()
        mask[: _common(head, ids)] = False
    return ids, mask


def _conversation(messages: Any, row: Mapping[str, Any], tokenizer: Any, assistant_only: bool) -> tuple[list[int], np.ndarray]:
    tools, more = _template_args(row)
    if not assistant_only:
        ids = list(template.render(tokenizer, messages, tools, add_generation_prompt=False, **more))
        return ids, np.ones(len(ids), dtype=bool)
    found, lost = chosen_examples(tokenizer, messages, assistants(messages), tools, more)
    if len(found) != 1 or lost:
        raise UserError(
            "assistant_only_loss: the chat template does not tell every assistant message apart in one pass; "
            "mark them in the template with {% generation %}, or use `burnish train` with sft.loss_on assistant"
        )
    return list(found[0][0]), np.asarray(found[0][1], dtype=bool)


def _template_args(row: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    tools = row.get("tools")
    return (json.loads(tools) if isinstance(tools, str) else tools) or None, dict(row.get("chat_template_kwargs") or {})


def _ended(text: str, tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise UserError("the tokenizer has no end-of-sequence token, so completions could never end; set tokenizer.eos_token")
    return text if text.endswith(tokenizer.eos_token) else text + tokenizer.eos_token


def _common(a: list[int], b: list[int]) -> int:
    """Length of the common beginning."""
    return next((place for place, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
