"""Rows become Items: what a curriculum draws."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

from burnish.data.rows import Gate, Report, Rows
from burnish.records import Item, Limits
from burnish.runs.errors import UserError


class Items(list[Item]):
    """A list of items with the `report` of the rows that were left out."""

    report: Report


def to_items(
    rows: Rows,
    policy: Any,
    group_size: int = 1,
    limits: Limits | None = None,
    template_args: Mapping[str, Any] | None = None,
    tools_column: str = "tools",
    *,
    max_prompt_tokens: int | None = None,
    too_long: Literal["refuse", "skip"] = "refuse",
) -> Items:
    """One item for each row that has a `prompt`, its other columns in `Item.columns`.

    A text prompt becomes token ids (`policy.encode`); messages stay messages, and the thinker renders them with the row's tools column
    and the same `template_args`. id: the column `id` where there is one, else "row-n" with the row's number in its source.
    max_prompt_tokens: the longest prompt that is let through; the model's context less one token is always a limit. too_long: what happens
    to longer ones.

    Raises UserError for data without prompts, a prompt that is too long (naming row and lengths) or that the template refuses,
    equal ids with different prompts, and where no row is left.
    """
    refuse_rows_without_prompts(rows)
    limit, why = sys.maxsize, ""
    if policy.max_length is not None:
        limit, why = policy.max_length - 1, f"the model's context is {policy.max_length}, which must leave room for an answer"
    if max_prompt_tokens is not None and max_prompt_tokens < limit:
        limit, why = max_prompt_tokens, "max_prompt_tokens"
    gate = Gate(Report(rows.report.source, read=len(rows)), too_long)
    items = Items()
    prompts: dict[str, Any] = {}
    for row, where, number in zip(rows, rows.where, rows.number):
        prompt = row["prompt"]
        ids = _encoded(policy, prompt, row.get(tools_column), template_args, where)
        if len(ids) > limit:
            gate.bad(
                where, f"the prompt has {len(ids)} tokens and at most {limit} fit ({why})", "prompt", "shorten it or set bad_rows to 'skip'"
            )
            continue
        name = str(row["id"]) if row.get("id") is not None else f"row-{number}"
        first, prompts[name] = prompts.get(name, prompt), prompt
        if first != prompt:
            raise UserError(f"{where}: the id {name!r} belongs to an earlier row with another prompt; equal ids must be the same problem")
        columns = {key: value for key, value in row.items() if key != "prompt"}
        if tools_column != "tools":  # where thinkers and evaluation look for them
            columns["tools"] = row.get(tools_column)
        items.append(Item(name, ids if isinstance(prompt, str) else prompt, group_size, limits or Limits(), columns))
    gate.report.kept = len(items)
    items.report = gate.close()
    return items


def refuse_rows_without_prompts(rows: Rows) -> None:
    """Raises UserError for a format from which no prompt can be drawn."""
    if "prompt" not in rows.columns:
        raise UserError(
            f"{rows.report.source}: there is no column 'prompt'; columns there: {', '.join(rows.columns)}; set data.columns.prompt"
        )
    if rows.format not in ("prompt", "prompt_completion"):
        raise UserError(f"{rows.report.source}: the data was read as {rows.format!r}; read it with format='prompt' to draw prompts from it")


def _encoded(policy: Any, prompt: Any, tools: Any, template_args: Mapping[str, Any] | None, where: str) -> list[int]:
    try:
        ids = policy.encode(prompt) if isinstance(prompt, str) else policy.encode(prompt, tools=tools, **(template_args or {}))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if not ids:
        raise UserError(f"{where}: the prompt has no tokens")
    return list(ids)
