"""When a turn ends: end-of-sequence ids, stop ids, stop strings, the length."""

from __future__ import annotations

from typing import Any

from burnish.inference.handle import Handle
from burnish.records import StopReason

_SLACK = 8  # tokens decoded before the longest possible match, for tokenizers whose first token loses its leading space


def stop_reason(handle: Handle, token: int, eos_ids: frozenset[int], tokenizer: Any) -> StopReason | None:
    """Why the turn ends with `token`, the last of handle.ids; None while it goes on."""
    if token in handle.ends:
        return StopReason.EOS if token in eos_ids else StopReason.STOP
    if handle.sampling.stop and _has_stop_string(handle, tokenizer):
        return StopReason.STOP
    return StopReason.LENGTH if len(handle.ids) >= handle.limit else None


def _has_stop_string(handle: Handle, tokenizer: Any) -> bool:
    """True where the text of the sampled tokens contains a stop string that ends in its last token.

    Only the tail is decoded: a token stands for at least one byte, so a match lies within as many tokens as it has bytes.
    """
    reach = max(len(text.encode()) for text in handle.sampling.stop)
    start = max(handle.run_start, len(handle.ids) - reach - _SLACK)
    text = tokenizer.decode(handle.ids[start:], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return any(stop in text for stop in handle.sampling.stop)
