"""Chains of small steps modulo 61, and a share of them whose answer is drawn at random: a task whose ceiling is known.

`k*-#.....>` -> `mlo`: a state is one character, an operation another, dots fill up; every step's state is written, and the last counts.
The answer of a random problem is drawn from all states, whatever the chain says, so nobody can do better on it than by luck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.runs.errors import UserError
from burnish.runs.seeds import rng, seed_for

STATES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"
"""61 states, one character each."""
OPERATIONS = {"+": 1, "*": 2, "#": 3, "-": -1, "/": -2, "%": -3}
"""One character each: + 1, * 2, # 3 steps up; - / % as many down."""
FILL = "."
ALPHABET = STATES + "".join(OPERATIONS) + FILL + ">"
TEST_SHARE = 8


@dataclasses.dataclass(frozen=True)
class Chain:
    """prompt: start, operations, dots up to the longest, ">". states: after each step. answer: what counts; random: it was drawn."""

    prompt: str
    states: str
    answer: str
    random: bool

    def row(self, name: str) -> dict[str, Any]:
        """A row for the data loaders."""
        return {"id": name, "prompt": self.prompt, "completion": self.states, "answer": self.answer, "horizon": len(self.states)}


def chains(n: int, seed: int, split: str, share: float = 0.0, longest: int = 8) -> list[Chain]:
    """n chains with horizons 1 to `longest` in turn; a share of them, spread evenly over horizons, has a random answer.

    The split is a property of the prompt (a hash), so held-out prompts are never trained on. Held-out prompts are all different;
    training prompts of horizon 1, of which there are few, come again, and a random one then gets a new answer.
    """
    generator = rng("scalerl chains", seed, split)
    out: list[Chain] = []
    seen: set[str] = set()
    misses = 0
    while len(out) < n:
        steps = len(out) % longest + 1
        start = int(generator.integers(len(STATES)))
        moves = generator.choice(list(OPERATIONS), size=steps)
        prompt = STATES[start] + "".join(moves).ljust(longest, FILL) + ">"
        held_out = seed_for("scalerl chain", prompt) % TEST_SHARE == 0
        if held_out != (split == "test") or (split == "test" and prompt in seen):
            misses += 1
            if misses > 1000 * TEST_SHARE:
                raise UserError(f"chains: only {len(out)} of {n} different held-out prompts found; ask for fewer, or for longer ones")
            continue
        misses = 0
        seen.add(prompt)
        states = _walk(start, [OPERATIONS[str(move)] for move in moves])
        number = len(out) // longest  # within its horizon
        drawn = int((number + 1) * share + 1e-9) > int(number * share + 1e-9)
        answer = STATES[int(generator.integers(len(STATES)))] if drawn else states[-1]
        out.append(Chain(prompt, states, answer, drawn))
    return out


def careless(problems: Sequence[Chain], slips: float, seed: int) -> list[Chain]:
    """The same chains as a careless teacher writes them: with chance `slips` a state is any at all, and the next goes on from it."""
    generator = rng("scalerl careless", seed)
    out = []
    for problem in problems:
        place, written = STATES.index(problem.prompt[0]), []
        for move in problem.prompt[1 : 1 + len(problem.states)]:
            slipped = generator.random() < slips
            place = int(generator.integers(len(STATES))) if slipped else (place + OPERATIONS[move]) % len(STATES)
            written.append(STATES[place])
        out.append(dataclasses.replace(problem, states="".join(written)))
    return out


def ceiling(problems: Sequence[Chain]) -> float:
    """The pass rate of a policy that works every chain out: random answers are met by luck only (1 - u + u/61 on average)."""
    return float(np.mean([problem.states[-1] == problem.answer for problem in problems]))


def check(text: str, columns: Mapping[str, Any]) -> bool:
    """Right: the last state written is the answer."""
    return text[-1:] == columns["answer"]


def _walk(start: int, moves: Sequence[int]) -> str:
    places = (start + np.cumsum(moves)) % len(STATES)
    return "".join(STATES[int(place)] for place in places)
