"""Chat messages to token ids by the model's own template, and which of those ids the assistant wrote.

Everything works on token ids. An assistant message is trained where the ids show exactly what the model would see and say there:

    the prompt before it (rendered with the generation prompt) is a prefix of the conversation's ids, and so is the conversation up to
    its end-of-turn token. The ids between the two carry loss; a newline that the template writes after the end-of-turn token does not.

A template that drops earlier thinking breaks the rule for earlier messages: in the whole conversation they stand without the
thinking that preceded them. `assistant_mask` leaves them out; `assistant_examples` gives each its own example, cut after it.
Where the template marks the assistant's tokens itself (`{% generation %}`), only those carry loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.meta
import numpy as np

from burnish.models.tokenizer import end_ids
from burnish.runs.errors import UserError, did_you_mean

Messages = Sequence[Mapping[str, Any]]
Span = tuple[int, int]
_GENERATION = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")
_FAILURES = (jinja2.TemplateError, LookupError, TypeError, ValueError, AttributeError)
# What transformers hands to every template, and the arguments of apply_chat_template that are no template variables.
_PROVIDED = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"}
_RESERVED = {"conversation", "messages", "tools", "tokenize", "return_dict", "return_tensors", "return_assistant_tokens_mask"}
_RESERVED |= {"add_generation_prompt", "continue_final_message", "padding", "truncation", "max_length", "tokenizer_kwargs"}


def require(tokenizer: Any, template: bool = False, eos: bool = False, pad: bool = False) -> None:
    """UserError with the remedy for each thing asked for that the tokenizer lacks."""
    if template and not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the tokenizer has no chat template, so messages cannot be rendered; set tokenizer.chat_template "
            "(burnish.models.tokenizer.template_named('chatml') gives a plain one), use a chat model, or give prompts as text"
        )
    if eos and tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no end-of-sequence token, so completions could never end; set tokenizer.eos_token")
    if pad and tokenizer.pad_token_id is None:
        raise UserError("the tokenizer has no pad token; set tokenizer.pad_token (its eos_token will do, padding is masked)")


def render(tokenizer: Any, messages: Messages, tools: Any = None, add_generation_prompt: bool = True, **template_args: Any) -> list[int]:
    """The ids of a conversation as the model's chat template has them.

    messages: {"role": ..., "content": ...} and what else the template reads. tools: JSON schemas or typed functions, or None.
    template_args: variables of the template, such as enable_thinking=False; one that the template never reads is refused.
    Raises UserError for a missing template, an unknown argument, and where the template refuses the messages.
    """
    _check(tokenizer, template_args)
    try:
        return _ids(tokenizer, messages, tools, add_generation_prompt, template_args)
    except _FAILURES as error:
        raise UserError(f"the chat template refuses the messages: {_line(error)}") from error


def render_text(tokenizer: Any, messages: Messages, tools: Any = None, add_generation_prompt: bool = True, **template_args: Any) -> str:
    """The same as text, for looking at; ids are never made from it."""
    _check(tokenizer, template_args)
    try:
        return _text(tokenizer, messages, tools, add_generation_prompt, template_args)
    except _FAILURES as error:
        raise UserError(f"the chat template refuses the messages: {_line(error)}") from error


def assistant_mask(tokenizer: Any, messages: Messages, tools: Any = None, **template_args: Any) -> tuple[list[int], np.ndarray]:
    """(ids of the whole conversation, bool mask [len(ids)] of the assistant's tokens with their end-of-turn tokens).

    An assistant message that breaks the rule at the head of this file is left out of the mask; see `assistant_examples`.
    Raises what `render` raises.
    """
    ids = render(tokenizer, messages, tools, add_generation_prompt=False, **template_args)
    mask = np.zeros(len(ids), dtype=bool)
    for start, end in _spans(tokenizer, ids, messages, tools, template_args, _assistants(messages)).values():
        mask[start:end] = True
    return ids, mask & _marked(tokenizer, ids, messages, tools, template_args)


def assistant_examples(
    tokenizer: Any, messages: Messages, tools: Any = None, **template_args: Any
) -> tuple[list[tuple[list[int], np.ndarray]], list[int]]:
    """As few examples (ids, mask) as train each assistant message exactly once, and the indices of messages that cannot be trained.

    An example ends with the last token that carries loss. Where a token would span the end of a prompt (a newline merged with the
    answer's first letters) the answer is encoded apart, as the model meets it in generation.
    Raises what `render` raises.
    """
    remaining, examples, dropped = _assistants(messages), [], []
    while remaining:
        last = remaining[-1]
        part = messages[: last + 1]
        ids = render(tokenizer, part, tools, add_generation_prompt=False, **template_args)
        spans = _spans(tokenizer, ids, part, tools, template_args, remaining)
        mask = np.zeros(len(ids), dtype=bool)
        if last in spans:
            for start, end in spans.values():
                mask[start:end] = True
            mask &= _marked(tokenizer, ids, part, tools, template_args)
            stop = spans[last][1]
            examples.append((ids[:stop], mask[:stop]))
        else:
            apart = _apart(tokenizer, part, tools, template_args)
            if apart is None:
                dropped.append(last)
            else:
                examples.append(apart)
            spans = {last: (0, 0)}
        remaining = [index for index in remaining if index not in spans]
    return [example for example in reversed(examples) if example[1].any()], dropped[::-1]


def _spans(tokenizer: Any, ids: list[int], messages: Messages, tools: Any, args: dict[str, Any], indices: Sequence[int]) -> dict[int, Span]:
    """index of an assistant message -> its span in `ids`, for those that keep the rule."""
    ends = set(end_ids(tokenizer))
    found: dict[int, Span] = {}
    for index in indices:
        try:
            prompt = _ids(tokenizer, messages[:index], tools, True, args)
            through = _ids(tokenizer, messages[: index + 1], tools, False, args)
        except _FAILURES:  # a template may refuse a conversation that stops here
            continue
        stop = _stop(through, len(prompt), ends)
        if ids[: len(prompt)] == prompt and ids[:stop] == through[:stop] and stop > len(prompt):
            found[index] = (len(prompt), stop)
    return found


def _apart(tokenizer: Any, messages: Messages, tools: Any, args: dict[str, Any]) -> tuple[list[int], np.ndarray] | None:
    """The last message's example with the answer encoded on its own, or None where its prompt is no prefix even as text."""
    try:
        prompt = _text(tokenizer, messages[:-1], tools, True, args)
        head = _ids(tokenizer, messages[:-1], tools, True, args)
    except _FAILURES:
        return None
    whole = _text(tokenizer, messages, tools, False, args)
    if not whole.startswith(prompt):
        return None
    ids = head + list(tokenizer.encode(whole[len(prompt) :], add_special_tokens=False))
    ids = ids[: _stop(ids, len(head), set(end_ids(tokenizer)))]
    return ids, np.arange(len(ids)) >= len(head)


def _stop(ids: list[int], start: int, ends: set[int]) -> int:
    """Just after the last end-of-turn token from `start` on; the end of `ids` where there is none."""
    return next((place + 1 for place in range(len(ids) - 1, start - 1, -1) if ids[place] in ends), len(ids))


def _marked(tokenizer: Any, ids: list[int], messages: Messages, tools: Any, args: dict[str, Any]) -> np.ndarray:
    """The template's own marks, or all True where it has none."""
    if not _GENERATION.search(_source(tokenizer)):
        return np.ones(len(ids), dtype=bool)
    found = tokenizer.apply_chat_template(
        list(messages), tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **args
    )
    return np.asarray(found["assistant_masks"], dtype=bool)


def _ids(tokenizer: Any, messages: Messages, tools: Any, generation: bool, args: Mapping[str, Any]) -> list[int]:
    found = tokenizer.apply_chat_template(
        list(messages), tools=tools, add_generation_prompt=generation, tokenize=True, return_dict=False, **args
    )
    return [int(token) for token in found]


def _text(tokenizer: Any, messages: Messages, tools: Any, generation: bool, args: Mapping[str, Any]) -> str:
    return tokenizer.apply_chat_template(list(messages), tools=tools, add_generation_prompt=generation, tokenize=False, **args)


def _assistants(messages: Messages) -> list[int]:
    return [index for index, message in enumerate(messages) if message.get("role") == "assistant"]


def _check(tokenizer: Any, args: Mapping[str, Any]) -> None:
    require(tokenizer, template=True)
    if not args:
        return
    source = _GENERATION.sub("", _source(tokenizer))
    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"the chat template has an error in line {error.lineno}: {_line(error)}") from error
    known = jinja2.meta.find_undeclared_variables(parsed) - _PROVIDED - set(tokenizer.special_tokens_map)
    for name in args:
        if name in _RESERVED or name not in known | {"chat_template", "documents"}:
            hint = did_you_mean(name, known) if known else "it reads none"
            raise UserError(f"template argument {name!r} is not read by this model's chat template; {hint}")


def _source(tokenizer: Any) -> str:
    """The template's text; of several named ones, the default."""
    template = tokenizer.chat_template
    return template.get("default", "") if isinstance(template, dict) else str(template)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
