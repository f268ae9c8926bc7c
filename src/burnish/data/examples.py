"""Rows become examples for supervised training: token ids and a mask of the tokens that carry loss."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from burnish.data.conversation import assistants, chosen_examples
from burnish.data.rows import BadRows, Gate, Report, Rows
from burnish.models import template
from burnish.runs.errors import UserError, did_you_mean

LossOn = Literal["auto", "completion", "assistant", "all"]
TooLong = Literal["drop", "truncate", "refuse"]
AUTO: dict[str, LossOn] = {"prompt_completion": "completion", "messages": "assistant", "text": "all"}
"""What carries loss in each format where nothing else is said."""


@dataclasses.dataclass
class Example:
    """ids: the tokens. mask: bool [len(ids)], True where a token carries loss (never the first, which nothing predicts). where: its row."""

    ids: list[int]
    mask: np.ndarray
    where: str = ""

    def __post_init__(self) -> None:
        self.mask = np.asarray(self.mask, dtype=bool)
        if self.mask.shape != (len(self.ids),):
            raise ValueError(f"example.mask has shape {self.mask.shape}; there are {len(self.ids)} ids")
        self.mask[:1] = False

    @property
    def n_loss_tokens(self) -> int:
        """Tokens that carry loss."""
        return int(self.mask.sum())


class Examples(list[Example]):
    """A list of examples with the `report` of the rows: left out, truncated, split.

    A conversation whose template drops earlier thinking may give several examples; the report counts rows.
    """

    report: Report


def to_examples(
    rows: Rows,
    policy: Any,
    loss_on: LossOn = "auto",
    max_length: int | None = None,
    *,
    too_long: TooLong = "drop",
    template_args: Mapping[str, Any] | None = None,
    tools_column: str = "tools",
    bad_rows: BadRows = "refuse",
) -> Examples:
    """Examples of "prompt_completion", "messages" and "text" rows.

    loss_on: "completion" (what follows the prompt; of a conversation, its last assistant message), "assistant" (every assistant message but
    those with weight 0), "all" (every token but the first), or "auto": completion, assistant and all for the three formats in this order.
    Completions end with an end-of-sequence token, which carries loss; it is added where neither data nor template brings it.
    max_length: tokens of an example, at most (and by default) the model's context; too_long says what happens to longer ones: left out and
    reported, cut at the end and counted (left out where no loss token remains), or refused. bad_rows: as in `load_rows`, for rows that the
    chat template refuses or that have nothing to learn from.

    Raises UserError for all that is refused, for data without completions and a tokenizer without an end-of-sequence token.
    """
    context = sys.maxsize if policy.max_length is None else policy.max_length
    limit = context if max_length is None else max_length
    if not 2 <= limit <= context:
        raise UserError(f"max_length is {max_length}; it must lie between 2 and the model's context of {policy.max_length} tokens")
    if too_long not in ("drop", "truncate", "refuse"):
        raise UserError(f"too_long is {too_long!r}; it must be 'drop', 'truncate' or 'refuse'")
    maker = _Maker(rows, policy, loss_on, dict(template_args or {}), tools_column)
    gate = Gate(Report(rows.report.source, read=len(rows)), bad_rows)
    long_gate = Gate(gate.report, "refuse" if too_long == "refuse" else "skip")
    out = Examples()
    for row, where in zip(rows, rows.where):
        try:
            made = list(maker.make(row, where))
        except UserError as error:
            gate.bad(where, str(error))
            continue
        if not any(example.n_loss_tokens for example in made):
            why = "the template does not tell the assistant's tokens apart" if maker.lost else "no assistant message, or none with weight"
            gate.bad(where, f"the row has no token to learn from ({why})")
            continue
        fitting = [example for example in (_fit(one, limit, too_long, gate.report) for one in made) if example is not None]
        if not fitting:
            longest = max(len(example.ids) for example in made)
            cut = "no token to learn from is left of" if too_long == "truncate" else "the row has"
            long_gate.bad(
                where, f"{cut} {longest} tokens, at most {limit} fit", remedy="shorten it, or set too_long to 'drop' or 'truncate'"
            )
            continue
        _note(gate.report, "conversations split", len(made) > 1)
        _note(gate.report, "rows with assistant messages that cannot be trained", maker.lost > 0)
        _note(gate.report, "examples too long", len(made) > len(fitting))
        _note(gate.report, "rows with unknown tokens", any(maker.unknown in example.ids for example in fitting))
        gate.report.kept += 1
        out += fitting
    out.report = gate.close()
    return out


def refuse_rows_without_completions(rows: Rows) -> None:
    """Raises UserError for a format that has nothing to learn from."""
    if rows.format not in AUTO:
        raise UserError(
            f"{rows.report.source}: there is no column 'completion' to learn from; columns there: {', '.join(rows.columns)}; "
            "set data.columns.completion"
        )


def _fit(example: Example, limit: int, too_long: TooLong, report: Report) -> Example | None:
    """The example, cut where that is wanted, or None where it does not fit or holds no loss token."""
    if len(example.ids) <= limit:
        return example if example.n_loss_tokens else None
    if too_long != "truncate":
        return None
    cut = Example(example.ids[:limit], example.mask[:limit], example.where)
    if not cut.n_loss_tokens:
        return None
    _note(report, "truncated", True)
    return cut


def _note(report: Report, name: str, happened: bool) -> None:
    if happened:
        report.notes[name] = report.notes.get(name, 0) + 1


class _Maker:
    """Encodes one row after another; questions about the whole data set are settled once, here."""

    def __init__(self, rows: Rows, policy: Any, loss_on: LossOn, template_args: dict[str, Any], tools_column: str) -> None:
        choices = ("auto", "completion", "assistant", "all")
        if loss_on not in choices:
            raise UserError(f"loss_on is {loss_on!r}; {did_you_mean(loss_on, choices)}")
        source = rows.report.source
        refuse_rows_without_completions(rows)
        self.format, self.policy, self.tokenizer = rows.format, policy, policy.tokenizer
        self.loss_on = AUTO[rows.format] if loss_on == "auto" else loss_on
        if self.format == "text" and self.loss_on != "all":
            raise UserError(f"{source}: plain text has no {self.loss_on}; set loss_on to 'all'")
        self.template_args, self.tools_column = template_args, tools_column
        self.end_ids = tuple(policy.eos_ids)
        if not self.end_ids:
            raise UserError("the tokenizer has no end-of-sequence token, so completions could never end; set tokenizer.eos_token")
        own = getattr(self.tokenizer, "eos_token_id", None)
        self.end_id = self.end_ids[0] if own is None else int(own)
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        # GPT-2 and others name their end-of-sequence token as the unknown one.
        self.unknown = None if unknown in self.end_ids else unknown
        self.lost = 0  # assistant messages of the row at hand whose tokens cannot be told apart

    def make(self, row: Mapping[str, Any], where: str) -> Iterator[Example]:
        """The examples of a row. Raises UserError where it cannot be rendered."""
        self.lost = 0
        if self.format == "text":
            ids = self._ended(list(self.policy.encode(row["text"])))
            yield Example(ids, np.ones(len(ids), dtype=bool), where)
        elif self.format == "prompt_completion" and isinstance(row["prompt"], str):
            yield self._completion(row["prompt"], row["completion"], where)
        elif self.format == "prompt_completion":
            yield from self._conversation([*row["prompt"], *row["completion"]], len(row["prompt"]), row.get(self.tools_column), where)
        else:
            yield from self._conversation(row["messages"], 0, row.get(self.tools_column), where)

    def _completion(self, prompt: str, completion: str, where: str) -> Example:
        if self.loss_on == "assistant":
            raise UserError("text rows have no assistant messages; set loss_on to 'completion' or as_messages")
        # Apart, as in generation: the model never sees a token that spans the end of its prompt.
        head = list(self.policy.encode(prompt))
        ids = self._ended(head + list(self.tokenizer(completion, add_special_tokens=False)["input_ids"]))
        mask = np.ones(len(ids), dtype=bool)
        mask[: len(head)] = self.loss_on == "all"
        return Example(ids, mask, where)

    def _conversation(self, messages: Sequence[Mapping[str, Any]], first: int, tools: Any, where: str) -> Iterator[Example]:
        """first: index of the completion's first message."""

        if self.loss_on == "all":
            ids = list(template.render(self.tokenizer, messages, tools, add_generation_prompt=False, **self.template_args))
            ids = self._ended(_trimmed(ids, self.end_ids))
            yield Example(ids, np.ones(len(ids), dtype=bool), where)
            return
        found, self.lost = chosen_examples(self.tokenizer, messages, self._targets(messages, first), tools, self.template_args)
        for ids, mask in found:
            ended = self._ended(ids)
            yield Example(ended, np.append(mask, [True] * (len(ended) - len(ids))), where)

    def _targets(self, messages: Sequence[Mapping[str, Any]], first: int) -> list[int]:
        """Indices of the messages that carry loss."""
        found = [index for index in assistants(messages) if messages[index].get("weight", 1)]
        if self.loss_on == "assistant":
            return found
        return [index for index in found if index >= first] if first else found[-1:]

    def _ended(self, ids: list[int]) -> list[int]:
        return ids if ids and ids[-1] in self.end_ids else [*ids, self.end_id]


def _trimmed(ids: list[int], end_ids: Sequence[int]) -> list[int]:
    """Without what a template writes after the last end-of-turn token (a newline), where that is all that follows the last message."""
    last = max((place for place, token in enumerate(ids) if token in end_ids), default=-1)
    return ids[: last + 1] if last >= 0 and len(ids) - last <= 3 else ids
