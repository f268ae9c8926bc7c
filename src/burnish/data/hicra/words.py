"""Words of a text with their places, and all occurrences of many phrases in one pass: a trie of words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_JOIN = r"""[ \t\r\n,\-–—'"“”‘’*]"""
_JOINED = re.compile(_JOIN + "+")
_BLANK_LINE = re.compile(r"\n[ \t\r]*\n")


@dataclasses.dataclass(frozen=True)
class Word:
    """text: lower-case, with a plain apostrophe. start, end: its characters in the text it was found in."""

    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Match:
    """gram: number of the phrase. start, end: the characters from its first word's first to its last word's last."""

    gram: int
    start: int
    end: int


def stretches(text: str) -> list[list[Word]]:
    """The words of a text, in stretches that a phrase may not leave.

    A word is a run of letters, digits and underscores, apostrophes inside it included. Spaces, single line ends, commas, hyphens, dashes,
    quotation marks and asterisks join two words; a blank line or any other character (a full stop, a colon, an operator) parts them.
    """
    out: list[list[Word]] = []
    end = -1
    for found in _WORD.finditer(text):
        gap = text[end : found.start()] if end >= 0 else ""
        joined = end >= 0 and (gap == " " or (_JOINED.fullmatch(gap) is not None and _BLANK_LINE.search(gap) is None))
        word = Word(_plain(found.group()), found.start(), found.end())
        if joined:
            out[-1].append(word)
        else:
            out.append([word])
        end = found.end()
    return out


def _plain(word: str) -> str:
    return word.lower().replace("’", "'")


def phrase_words(phrase: str) -> tuple[str, ...]:
    """The words of a phrase, as they are matched."""
    return tuple(word.text for stretch in stretches(phrase) for word in stretch)


def ngrams(text: str, least: int, most: int) -> Iterator[str]:
    """Every run of `least` to `most` words inside a stretch, joined by single spaces, in order of their first word."""
    for stretch in stretches(text):
        words = [word.text for word in stretch]
        for start in range(len(words)):
            for end in range(start + least, min(start + most, len(words)) + 1):
                yield " ".join(words[start:end])


class Matcher:
    """Finds thousands of phrases in one pass over the words of a text. phrases: their words, none twice."""

    def __init__(self, phrases: Sequence[str]):
        self.phrases = tuple(phrases)
        self._root: dict[str, Any] = {}
        for number, phrase in enumerate(phrases):
            node = self._root
            for word in phrase_words(phrase):
                node = node.setdefault(word, {})
            node[""] = number  # no word is empty

    def find(self, text: str) -> list[Match]:
        """All occurrences, overlapping ones too, by start and then by end: case-insensitive, at word borders, inside a stretch.

        Time: words of the text times words of the longest phrase, however many phrases there are.
        """
        out = []
        for stretch in stretches(text):
            for first, word in enumerate(stretch):
                node = self._root.get(word.text)
                place = first
                while node is not None:
                    if "" in node:
                        out.append(Match(node[""], word.start, stretch[place].end))
                    place += 1
                    node = node.get(stretch[place].text) if place < len(stretch) else None
        return out


def find_naive(phrases: Sequence[str], text: str) -> list[Match]:
    """What `Matcher.find` finds, by one regular expression for each phrase: slow and obvious."""
    out = []
    for number, phrase in enumerate(phrases):
        words = [re.escape(word).replace("'", "['’]") for word in phrase_words(phrase)]
        joined = rf"(?:(?!(?<=\w)['’]\w){_JOIN})+".join(words)  # an apostrophe between two letters joins no words: it is inside one
        pattern = re.compile(rf"(?=(?<!\w)(?<!\w['’])({joined})(?!\w)(?!['’]\w))", re.IGNORECASE)
        for found in pattern.finditer(text):
            if _BLANK_LINE.search(found.group(1)) is None:
                out.append(Match(number, found.start(1), found.end(1)))
    return sorted(out, key=lambda match: (match.start, match.end))
