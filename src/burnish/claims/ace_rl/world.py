"""Documents of 30 to 80 words from a small vocabulary, and prompts whose 3 to 8 requirements a program decides.

A word is one character: `a` to `l` are topics, `A` to `E` headings, `p` and `u` verbs in the past and the future, `.` ends a sentence,
`x`, `y`, `z` are closing phrases, `;:,` fill up. A prompt is the target length in tens, requirements of two or three characters, and `>`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.data.ace_rl.checklist import Requirement
from burnish.runs.seeds import rng, seed_for

TOPICS, HEADINGS, TENSES, CLOSINGS, FILL = "abcdefghijkl", "ABCDE", "pu", "xyz", ";:,"
STOP, BLANK, END = ".", "_", ">"
MARKS = "+-=<!~"
ALPHABET = TOPICS + HEADINGS + TENSES + CLOSINGS + FILL + STOP + BLANK + END + MARKS + "0123456789"
KINDS = {
    "+": "content completeness",
    "-": "content completeness",
    "=": "structural logic",
    "<": "structural logic",
    "!": "stylistic formatting",
    "~": "stylistic formatting",
}
WORDS_AT_MOST = 110
LENGTHS = (30, 40, 50, 60, 70, 80)
SECTIONS = (2, 3, 4)
REQUIREMENTS = (3, 8)
PROMPT = 2 + 3 * REQUIREMENTS[1]
TEST_SHARE = 8
CODES = (
    *(f"+{word}" for word in TOPICS),
    *(f"-{word}" for word in TOPICS),
    *(f"={number}" for number in SECTIONS),
    *(f"<{a}{b}" for a in HEADINGS for b in HEADINGS if a != b),
    *(f"!{word}" for word in CLOSINGS),
    *(f"~{word}" for word in TENSES),
)
"""Every requirement there is."""


@dataclasses.dataclass(frozen=True)
class Task:
    """codes: the requirements. length: the target in words."""

    codes: tuple[str, ...]
    length: int

    @property
    def prompt(self) -> str:
        """All prompts are equally long."""
        return str(self.length // 10) + "".join(self.codes).ljust(PROMPT - 2, BLANK) + END

    def row(self, name: str) -> dict[str, Any]:
        """A row for the data loaders, as `burnish method ace-rl build` would write it."""
        items = [{"id": code, "dimension": KINDS[code[0]], "text": code, "explicit": True} for code in self.codes]
        return {
            "id": name,
            "prompt": self.prompt,
            "instruction": self.prompt,
            "target_length": self.length,
            "length_unit": "characters",
            "checklist": items,
        }


def tasks(n: int, seed: int, split: str = "train") -> list[Task]:
    """n tasks that can be met in full. The split is a property of the prompt (a hash): held-out prompts are never trained on."""
    generator = rng("ace-rl tasks", seed, split)
    out: list[Task] = []
    seen: set[str] = set()
    while len(out) < n:
        task = _task(generator)
        held_out = seed_for("ace-rl prompt", task.prompt) % TEST_SHARE == 0
        if held_out == (split == "test") and not (split == "test" and task.prompt in seen):
            seen.add(task.prompt)
            out.append(task)
    return out


def _task(generator: np.random.Generator) -> Task:
    wanted = int(generator.integers(REQUIREMENTS[0], REQUIREMENTS[1] + 1))
    topics = generator.permutation(list(TOPICS))
    heads = generator.permutation(list(HEADINGS))
    pool = [f"+{topics[0]}", f"+{topics[1]}", f"-{topics[2]}", f"-{topics[3]}"]
    pool += [f"={generator.choice(SECTIONS)}", f"<{heads[0]}{heads[1]}", f"!{generator.choice(list(CLOSINGS))}"]
    pool += [f"~{generator.choice(list(TENSES))}"]
    codes = tuple(str(code) for code in generator.permutation(pool)[:wanted])
    return Task(codes, int(generator.choice(LENGTHS)))


# --- the program that decides ------------------------------------------------------------------------------------------------------------
def grade(code: str, text: str) -> float:
    """1, 0.5 or 0: what a text makes of a requirement."""
    kind, what = code[0], code[1:]
    if kind == "+":  # say it twice or more; once is half
        return (0.0, 0.5, 1.0)[min(text.count(what), 2)]
    if kind == "-":  # never say it; once is half
        return (1.0, 0.5, 0.0)[min(text.count(what), 2)]
    if kind == "=":  # exactly so many sections; one more or less is half
        return (1.0, 0.5, 0.0)[min(abs(sum(text.count(head) for head in HEADINGS) - int(what)), 2)]
    if kind == "<":  # one section before another; the wrong order, or one of them alone, is half
        first, second = text.find(what[0]), text.find(what[1])
        return 0.0 if first < 0 and second < 0 else 1.0 if 0 <= first < second else 0.5
    if kind == "!":  # the closing phrase at the end; elsewhere is half
        return 1.0 if text.endswith(what) else 0.5 if what in text else 0.0
    verbs = [text.count(tense) for tense in TENSES]  # all verbs in the tense, but for one in ten; half of them is half
    share = verbs[TENSES.index(what)] / sum(verbs) if sum(verbs) else 0.0
    return 1.0 if share >= 0.9 else 0.5 if share >= 0.5 else 0.0


def exact(item: Requirement, text: str, instruction: str) -> float:
    """The program as a judge."""
    return grade(item.text, text)


def confused(item: Requirement, text: str, instruction: str, rate: float = 0.1) -> float:
    """The program as a small model would play it: with chance `rate`, fixed for text and item, the grade is one step off."""
    found = grade(item.text, text)
    draw = seed_for("ace-rl confusion", instruction, item.text, text)
    if draw % 10_000 >= rate * 10_000:
        return found
    return 0.5 if found != 0.5 else float(draw // 10_000 % 2)


# --- the holistic judge ------------------------------------------------------------------------------------------------------------------
def features(text: str) -> tuple[float, float, float]:
    """Fluency (share of words that may follow the one before), headings (there are some, and not too many), variety of words."""
    if len(text) < 2:
        return 0.0, 0.0, 0.0
    fluent = sum(follows(a, b) for a, b in pairwise(text)) / (len(text) - 1)
    heads = sum(text.count(head) for head in HEADINGS)
    headed = float(1 <= heads <= len(text) / 6)
    return fluent, headed, min(1.0, len(set(text)) / 14)


def follows(a: str, b: str) -> bool:
    """Whether word b may stand after word a: a sentence is topics, fill and verbs up to a stop; headings open sections."""
    if a in HEADINGS or a == STOP:
        return b in TOPICS + FILL or (a == STOP and b in HEADINGS + CLOSINGS)
    if a in TOPICS + FILL:
        return b in TOPICS + FILL + TENSES + STOP
    if a in TENSES:
        return b in TOPICS + FILL + STOP
    return b in CLOSINGS


def holistic(text: str, instruction: str, noise: float = 0.05) -> int:
    """One number from 1 to 10 for the whole text: the mean of generic features with noise that is fixed for a text, rounded."""
    generator = rng("ace-rl holistic", instruction, text)
    value = float(np.mean(features(text))) + noise * float(generator.standard_normal())
    return int(np.clip(round(1 + 9 * value), 1, 10))


# --- the teacher -------------------------------------------------------------------------------------------------------------------------
def document(task: Task, care: float, off: float, generator: np.random.Generator) -> str:
    """A fluent text that heeds each requirement with chance `care`, and about as long as wanted: off by up to the share `off`."""
    heeded = [code for code in task.codes if generator.random() < care]
    said = {kind: [code[1:] for code in heeded if code[0] == kind] for kind in MARKS}
    length = max(12, round(task.length * (1 + off * (2 * generator.random() - 1))))
    sections = int(said["="][0]) if said["="] else int(generator.integers(1, 6))
    heads = _heads(sections, said["<"], generator)
    free = [word for word in TOPICS if word not in said["-"]]
    liked = [str(word) for word in generator.choice(free, 5, replace=False)]
    tense = said["~"][0] if said["~"] else None
    closing = said["!"][0] if said["!"] else str(generator.choice(list(CLOSINGS))) if generator.random() < 0.5 else ""
    sure = [word for word in said["+"] for _ in range(2)]
    room = length - len(heads) - len(closing)
    sentences = _sentences(room, liked, tense, sure, generator)
    return _laid_out(heads, sentences) + closing


def _heads(n: int, orders: Sequence[str], generator: np.random.Generator) -> list[str]:
    heads = [str(head) for head in generator.choice(list(HEADINGS), n)]
    if orders and n >= 2:
        first, second = orders[0][0], orders[0][1]
        others = [head for head in HEADINGS if head not in orders[0]]
        heads = [str(head) for head in generator.choice(others, n)]
        low, high = sorted(int(place) for place in generator.choice(n, 2, replace=False))
        heads[low], heads[high] = first, second
    return heads


def _sentences(room: int, liked: Sequence[str], tense: str | None, sure: list[str], generator: np.random.Generator) -> list[str]:
    """Sentences of 4 to 8 words until the room is filled; the words of `sure` all come up."""
    out: list[str] = []
    left = list(sure)
    while room >= 4:
        size = int(generator.integers(4, 9))
        size = room if room - size < 4 else size
        body = [str(generator.choice(list(FILL))) if generator.random() < 0.3 else str(generator.choice(liked)) for _ in range(size - 2)]
        for place in range(min(len(left), len(body))):
            if generator.random() < 0.6 or room - size < 12:
                body[place] = left.pop()
        verb = tense or str(generator.choice(list(TENSES)))
        body.insert(int(generator.integers(1, len(body) + 1)), verb)
        out.append("".join(body) + STOP)
        room -= size
    return out


def _laid_out(heads: Sequence[str], sentences: Sequence[str]) -> str:
    """Sections with about equally many sentences."""
    cuts = np.linspace(0, len(sentences), len(heads) + 1).round().astype(int)
    return "".join(head + "".join(sentences[a:b]) for head, a, b in zip(heads, cuts, cuts[1:]))


def demonstrations(n: int, seed: int, care: float, off: float = 0.08) -> list[tuple[Task, str]]:
    """Tasks with a careless teacher's documents."""
    generator = rng("ace-rl teacher", seed)
    return [(task, document(task, care, off, generator)) for task in tasks(n, seed)]
