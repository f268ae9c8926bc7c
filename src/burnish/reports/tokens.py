"""Token ids as text to look at: what each token says, and which are special. A view only; nothing here is ever encoded again."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Protocol

from burnish.reports import words
from burnish.reports.run_files import RunFiles

_SPECIAL = r"(<\|[^<>|]{1,40}\|>|</?s>|<pad>|<unk>|<bos>|<eos>|<start_of_turn>|<end_of_turn>)"


class Decoder(Protocol):
    """token id -> text, and the ids of special tokens."""

    special: frozenset[int]

    def text(self, ids: Sequence[int]) -> str:
        """The text of these ids, special tokens included."""


@dataclasses.dataclass(frozen=True)
class Token:
    """text: as shown (line ends marked). kind: words out of "special", "injected" and "mark m0", "mark m1" ... (a token column's).

    probability: class 0 (certain) to 4 (unlikely), None unknown. title: id and log-prob for the tooltip.
    """

    text: str
    kind: str = ""
    probability: int | None = None
    title: str = ""


class FileDecoder:
    """Reads a fast tokenizer's `tokenizer.json`."""

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(path)
        self.special = frozenset(index for index, token in self.tokenizer.get_added_tokens_decoder().items() if token.special)

    def text(self, ids: Sequence[int]) -> str:
        """The text of these ids; an id outside the vocabulary yields nothing."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)


def decoder_of(run: RunFiles) -> Decoder | None:
    """The run's own tokenizer, out of its newest checkpoint or its folder; None where there is none that can be read."""
    folders = [run.checkpoints[step] for step in sorted(run.checkpoints, reverse=True)]
    folders += [entry for entry in sorted(run.path.iterdir()) if entry.is_dir() and entry not in folders] + [run.path]
    for folder in folders:
        file = folder / "tokenizer.json"
        if file.is_file():
            try:
                return FileDecoder(str(file))
            except Exception as error:  # the Rust library raises bare Exception for a broken file
                run.problems.append(f"{file.relative_to(run.path)} cannot be read, so tokens are not shown: {str(error)[:120]}")
    return None


def pieces(ids: Sequence[int], decoder: Decoder) -> list[tuple[int, int, str]]:
    """(first, end, text) of the smallest runs of ids that are whole characters: the bytes of one character stay together."""
    out: list[tuple[int, int, str]] = []
    start = 0
    for end in range(1, len(ids) + 1):
        text = decoder.text(ids[start:end])
        whole = end == len(ids) or end - start >= 4 or ids[end] in decoder.special
        if "\ufffd" not in text or whole:
            out.append((start, end, text))
            start = end
    return out


def token_view(
    ids: Sequence[int],
    logprobs: Sequence[float | None],
    injected: Sequence[bool],
    decoder: Decoder,
    marks: Sequence[int | None] = (),
    names: Sequence[str] = (),
) -> list[Token]:
    """One Token for each piece. logprobs: nats per id (None where unknown). marks: the token column (out of names) that marks each id."""
    out = []
    for start, end, text in pieces(ids, decoder):
        own = [value for value in logprobs[start:end] if value is not None]
        forced = any(injected[start:end])
        kind = "special" if ids[start] in decoder.special else "injected" if forced else ""
        title = f"id {' '.join(map(str, ids[start:end]))}"
        if own:
            title += f" · log-prob {sum(own):.2f}"
        title += " · injected, not trained on" if forced else ""
        column = next((place for place in marks[start:end] if place is not None), None)
        if column is not None:
            kind, title = f"{kind} mark m{column}".strip(), f"{title} · {names[column]}"
        shown = words.safe(text).replace("\n", "↵\n") or "·"
        kind += " injected" if forced and kind.startswith("special") else ""
        out.append(Token(shown, kind, None if forced or not own else grade(sum(own)), title))
    return out


def marked(text: str) -> list[Token]:
    """The text of a completion without its ids: what looks like a special token is marked, for the eye only."""
    parts = re.split(_SPECIAL, text)
    return [Token(words.safe(part), "special" if index % 2 else "") for index, part in enumerate(parts) if part]


def grade(logprob: float) -> int:
    """0 for a token of probability above 0.9, then 1 above 0.5, 2 above 0.2, 3 above 0.05, and 4."""
    bounds = (-0.10536, -0.69315, -1.60944, -2.99573)
    return sum(logprob <= bound for bound in bounds)
