"""Problems whose solution is a plan and its execution: six kinds, each solved by one phrase, then the eight numbers that it prescribes.

`n7 kind2` -> `now climb in twos n9 n0 n2 ...`: the phrase is the choice, the numbers are its execution (start plus the strategy's step,
again and again, modulo 11). Which strategy solves which kind follows from the seed; nothing in the prompt tells it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from burnish.runs.seeds import rng

STRATEGIES = {
    "go up by one": 1,
    "now climb in twos": 2,
    "take three each time": 3,
    "step back one place": -1,
    "walk down by twos": -2,
    "fall three at once": -3,
}
"""Phrase -> what is added at each step. No two share a word at the same place, so the first word is the choice."""
PHRASES = tuple(STRATEGIES)
MODULUS = 11
LENGTH = 8
NEW_TOKENS = len(PHRASES[0].split()) + LENGTH + 1
PLANNING = len(PHRASES[0].split()) / NEW_TOKENS
"""Share of planning tokens in a completion that keeps to the form, its end included."""
HELD_OUT = 4
"""One pair of kind and start in four is never trained on."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """kind, start: numbers. strategy: the phrase that solves it."""

    kind: int
    start: int
    strategy: str

    @property
    def prompt(self) -> str:
        """Two tokens."""
        return f"n{self.start} kind{self.kind}"

    def row(self, name: str) -> dict[str, Any]:
        """A row for the data loaders."""
        return {"id": name, "prompt": self.prompt, "answer": solution(self.strategy, self.start)}


def solution(strategy: str, start: int) -> str:
    """The phrase and its execution."""
    return written(strategy, [(start + STRATEGIES[strategy] * n) % MODULUS for n in range(1, LENGTH + 1)])


def written(strategy: str, numbers: Sequence[int]) -> str:
    """A completion's text."""
    return " ".join([strategy, *(f"n{number}" for number in numbers)])


def solvers(seed: int, kinds: int = len(PHRASES)) -> tuple[str, ...]:
    """The strategy of each kind: a permutation drawn by seed; with kinds=1 the first of it solves every kind."""
    order = [PHRASES[int(n)] for n in rng("hicra kinds", seed).permutation(len(PHRASES))]
    return tuple(order) if kinds > 1 else (order[0],) * len(PHRASES)


def problems(n: int, seed: int, split: str = "train", kinds: int = len(PHRASES)) -> list[Problem]:
    """n problems, the kinds in turn; pairs of kind and start of the other split never occur."""
    generator = rng("hicra problems", seed, split)
    by = solvers(seed, kinds)
    out = []
    for kind in (number % len(PHRASES) for number in range(n)):
        starts = [start for start in range(MODULUS) if ((start + kind) % HELD_OUT == 0) == (split == "test")]
        out.append(Problem(kind, int(generator.choice(starts)), by[kind]))
    return out


def demonstrations(n: int, seed: int, slips: float) -> list[dict[str, str]]:
    """Rows for fine-tuning: a strategy drawn at random, whatever the kind, and its execution; each number slips with chance `slips`.

    The execution goes on from the slip.
    """
    generator = rng("hicra demonstrations", seed)
    rows = []
    for one in problems(n, seed):
        strategy = PHRASES[int(generator.integers(len(PHRASES)))]
        place, numbers = one.start, []
        for _ in range(LENGTH):
            slipped = generator.random() < slips
            place = int(generator.integers(MODULUS)) if slipped else (place + STRATEGIES[strategy]) % MODULUS
            numbers.append(place)
        rows.append({"prompt": one.prompt, "completion": written(strategy, numbers)})
    return rows


def check(text: str, columns: Mapping[str, Any]) -> bool:
    """Right: the kind's phrase and its execution, nothing else."""
    return text.split() == str(columns["answer"]).split()


def executed(text: str, start: int) -> bool:
    """Whether a strategy, right or wrong for the kind, was carried out without a slip."""
    return any(text.split() == solution(strategy, start).split() for strategy in PHRASES)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = dict.fromkeys(word for phrase in PHRASES for word in phrase.split())
    names = ["<pad>", "<eos>", "<unk>", *words, *(f"kind{n}" for n in range(len(PHRASES))), *(f"n{n}" for n in range(MODULUS))]
    core = Tokenizer(models.WordLevel(vocab={name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
