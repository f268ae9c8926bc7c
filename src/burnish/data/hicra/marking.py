"""From matches in the decoded text back to tokens: which token ids planning phrases are made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from burnish.data.hicra.grams import Grams
from burnish.data.hicra.words import Match
from burnish.records import Rollout

Decode = Callable[[list[int]], str]
Spans = list[tuple[int, int]]

BROKEN = "\ufffd"
LONGEST = 8
"""Tokens after which bytes that never become a character are taken as they are."""


def remembered(decode: Decode, entries: int = 100_000) -> Decode:
    """The same, with the texts of up to four ids kept: pieces come again and again."""
    short = functools.lru_cache(entries)(lambda ids: decode(list(ids)))
    return lambda ids: short(tuple(ids)) if len(ids) <= 4 else decode(ids)


def token_spans(ids: Sequence[int], decode: Decode) -> tuple[str, Spans]:
    """The text of these ids and each token's characters (start, end) in it; an empty span where a token writes nothing (a special one).

    decode: ids -> text without special tokens. Of a character whose bytes are split over tokens each of them has it in its span.
    """
    ids = list(ids)
    text = decode(ids)
    alone = {token: decode([token]) for token in set(ids)}
    pieces = [alone[token] for token in ids]
    if BROKEN not in text and not any(BROKEN in piece for piece in alone.values()) and "".join(pieces) == text:
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64).tolist()
        return text, list(zip([0, *ends], ends))
    return _windowed(ids, decode)


def _windowed(ids: list[int], decode: Decode) -> tuple[str, Spans]:
    """Piece by piece, each decoded behind the one before it, since a tokenizer may join them with spaces or out of single bytes."""
    text, spans = "", Spans()
    before, start = 0, 0  # the piece that was written last begins at `before`, the open one at `start`
    while start < len(ids):
        prefix = decode(ids[before:start]) if start else ""
        whole = prefix
        parts: list[int] = []  # characters complete after each token of the piece
        for end in range(start + 1, len(ids) + 1):
            whole = decode(ids[before:end])
            complete = len(whole.rstrip(BROKEN)) - len(prefix)
            parts.append(max(complete, parts[-1] if parts else 0))
            if not whole.endswith(BROKEN) or end - start >= LONGEST:
                break
        piece = whole[len(prefix) :]
        place = len(text)
        for number, complete in enumerate(parts):
            first = parts[number - 1] if number else 0
            # a token that leaves a character open has a share in it
            last = len(piece) if number == len(parts) - 1 else min(complete + 1, len(piece))
            spans.append((place + min(first, len(piece)), place + last))
        text += piece
        if piece:
            before = start
        start += len(parts)
    return text, spans


def token_spans_naive(ids: Sequence[int], decode: Decode) -> tuple[str, Spans]:
    """The same by decoding every prefix: slow and obvious. Characters still open at the end of a prefix belong to the next token too."""
    ids = list(ids)
    text = decode(ids)
    spans, done = Spans(), 0
    for end in range(1, len(ids) + 1):
        prefix = decode(ids[:end])
        complete = len(prefix.rstrip(BROKEN)) if end < len(ids) else len(text)
        open_one = prefix.endswith(BROKEN) and end < len(ids)
        spans.append((min(done, complete), min(complete + open_one, len(text))))
        done = max(done, complete)
    return text, spans


def tokens_inside(spans: Spans, matches: Sequence[Match]) -> np.ndarray:
    """bool [tokens]: tokens with at least one character inside a match."""
    marks = np.zeros(len(spans), dtype=bool)
    if not matches or not spans:
        return marks
    size = max(end for _, end in spans)
    inside = np.zeros(size + 1, dtype=np.int64)  # inside[c]: marked characters before c
    cover = np.zeros(size, dtype=bool)
    for match in matches:
        cover[match.start : match.end] = True
    inside[1:] = np.cumsum(cover)
    starts, ends = np.array(spans, dtype=np.int64).T
    return inside[ends] > inside[np.minimum(starts, ends)]


@dataclasses.dataclass(frozen=True)
class Marks:
    """tokens: bool over the rollout's loss tokens. occurrences: number of a gram -> how often it occurred."""

    tokens: np.ndarray
    occurrences: dict[int, int]


def mark_rollout(rollout: Rollout, grams: Grams, decode: Decode) -> Marks:
    """Planning tokens among the loss tokens, turn by turn: a phrase does not reach over the end of a turn.

    Prompts are no part of it. A phrase is found where injected tokens (a tool's answer, a forced phrase) take part in it, but they are
    never marked, and an occurrence without a token of the policy's own is not counted.
    """
    columns, occurrences = [], dict[int, int]()
    for turn in rollout.turns:
        mask = turn.loss_mask
        if not mask.any():
            continue
        text, spans = token_spans(turn.output_ids, decode)
        matches = grams.matcher.find(text)
        own = _own_characters(spans, mask)
        for match in matches:
            if own[match.start : match.end].any():
                occurrences[match.gram] = occurrences.get(match.gram, 0) + 1
        columns.append(tokens_inside(spans, matches)[mask])
    return Marks(np.concatenate(columns) if columns else np.zeros(0, dtype=bool), occurrences)


def _own_characters(spans: Spans, mask: np.ndarray) -> np.ndarray:
    own = np.zeros(max((end for _, end in spans), default=0), dtype=bool)
    for (start, end), mine in zip(spans, mask):
        if mine:
            own[start:end] = True
    return own
