"""A corpus of made-up solutions with planted planning phrases: twelve strategies with three paraphrases each, between execution text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.data.hicra.words import ngrams
from burnish.runs.seeds import rng

PLANTED: tuple[tuple[str, str, str], ...] = (
    ("let us try another way", "let us now try another way", "we could try another way"),
    ("go back and check this", "going back and checking this", "we go back to check this"),
    ("first break it into parts", "break this first into parts", "let me break it into parts"),
    ("what if we assume otherwise", "what if i assume otherwise", "suppose what if we assume"),
    ("consider the simpler case first", "considering a simpler case first", "look at the simpler case"),
    ("it would help to draw", "it could help to draw", "maybe it helps to draw"),
    ("work backwards from the goal", "working backwards from the goal", "we work backwards from here"),
    ("look for a hidden pattern", "looking for some hidden pattern", "search for a hidden pattern"),
    ("this leads to a contradiction", "that leads to a contradiction", "this would be a contradiction"),
    ("split into two separate cases", "splitting into separate cases", "we split into separate cases"),
    ("is there a shorter route", "there is a shorter route", "maybe there is a shorter route"),
    ("compare both of the options", "comparing both of the options", "now compare both options here"),
)
"""Strategies and their paraphrases, five or six words each."""

VERBS = ("add", "subtract", "multiply", "divide", "reduce", "expand", "factor", "square")
NOUNS = ("term", "sum", "product", "factor", "root", "ratio", "angle", "length", "area", "slope", "digit", "power")
LINKS = ("to", "by", "with", "from", "over", "into")
NAMES = tuple("abcdefghkmnpqrstuvwxyz")


@dataclasses.dataclass(frozen=True)
class Shape:
    """solutions: of the corpus. plans: strategies in each. routines: different execution steps there are. steps: of them in a solution.

    usual: share of the uses of a strategy that take its first paraphrase; the other two share the rest.
    repeated: (least, most) times a solution says one more step of its own: frequent inside it, rare elsewhere.
    """

    solutions: int
    plans: int
    routines: int
    steps: int
    usual: float
    repeated: tuple[int, int]


def corpus(shape: Shape, seed: int) -> list[str]:
    """The solutions. Phrases and steps are sentences, so that an n-gram is either planning or execution."""
    generator = rng("hicra corpus", seed)
    routines = [_step(generator) for _ in range(shape.routines)]
    out = []
    for _ in range(shape.solutions):
        steps = [routines[int(n)] for n in generator.integers(len(routines), size=shape.steps + 1)]
        sentences = steps[1:] + steps[:1] * int(generator.integers(*shape.repeated, endpoint=True))
        sentences += [PLANTED[int(n)][_paraphrase(generator, shape.usual)] for n in generator.permutation(len(PLANTED))[: shape.plans]]
        order = generator.permutation(len(sentences))
        out.append(" ".join(f"{sentences[int(n)].capitalize()}." for n in order))
    return out


def _paraphrase(generator: np.random.Generator, usual: float) -> int:
    return 0 if generator.random() < usual else 1 + int(generator.integers(2))


def _step(generator: np.random.Generator) -> str:
    """One sentence of execution: random words with random names."""
    verb, noun, link, other = (str(generator.choice(words)) for words in (VERBS, NOUNS, LINKS, NOUNS))
    x, y = (str(generator.choice(NAMES)) for _ in range(2))
    return f"{verb} {noun} {x} {link} {other} {y}"


def planted_ngrams(n: tuple[int, int]) -> frozenset[str]:
    """Every n-gram that lies inside a planted phrase: the truth."""
    return frozenset(gram for phrases in PLANTED for phrase in phrases for gram in ngrams(phrase, *n))


def precision_recall(found: Sequence[str], truth: frozenset[str]) -> dict[str, Any]:
    """precision: share of the found grams that are planted; recall: share of the planted grams that are found."""
    hits = len(truth & set(found))
    return {"precision": hits / max(1, len(found)), "recall": hits / len(truth), "grams": len(found)}
