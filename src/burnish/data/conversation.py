"""Examples of a conversation in which only some of the assistant's messages carry loss.

`models.template.assistant_examples` finds the tokens of every assistant message; here those of the chosen ones are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.models import template

Masked = tuple[list[int], np.ndarray]


def assistants(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of the assistant's messages."""
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]


def chosen_examples(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], targets: Collection[int], tools: Any, template_args: Mapping[str, Any]
) -> tuple[list[Masked], int]:
    """(examples (ids, mask [len(ids)]) that train each target message once, number of targets that cannot be trained).

    targets: indices of assistant messages. A conversation whose template drops earlier thinking gives several examples.
    Raises what `template.render` raises.
    """
    if set(targets) == set(assistants(messages)):
        examples, dropped = template.assistant_examples(tokenizer, messages, tools, **template_args)
        return examples, len(dropped)
    out: list[Masked] = []
    lost = 0
    for index in sorted(targets):
        found, dropped = template.assistant_examples(tokenizer, messages[: index + 1], tools, **template_args)
        if index in dropped or not found:
            lost += 1
            continue
        ids, mask = found[-1]
        prompt = template.render(tokenizer, messages[:index], tools, add_generation_prompt=True, **template_args)
        _add(out, ids, mask & (np.arange(len(ids)) >= len(prompt)))
    return out, lost


def _add(out: list[Masked], ids: list[int], mask: np.ndarray) -> None:
    """Appends the example, or lets it take the place of the one before, which it extends."""
    if out and ids[: len(out[-1][0])] == out[-1][0]:
        mask[: len(out[-1][0])] |= out[-1][1]
        out.pop()
    out.append((ids, mask))
