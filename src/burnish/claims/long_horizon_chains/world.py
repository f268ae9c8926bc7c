"""Chains modulo 61: a start, then up to twelve steps of +-1, +-2 or +-3. Every state is written, and only the last one is rewarded.

A prompt is the start, one character for each step (its operation, and which step it is), dots up to twelve, and ">"; the completion
is one character for each state. A step from the eighth on is written as the eighth, so that longer chains than any in training can be
asked. A blind guess is right in one of 61 cases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from burnish.data.formats import load_rows
from burnish.data.items import to_items
from burnish.models.policy import Policy
from burnish.records import Item, Limits
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng, seed_for

MODULUS = 61
STATES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"
MOVES = (1, 2, 3, -1, -2, -3)
DEPTHS = 8
"""Steps that are told apart; later ones are written as the eighth."""
LONGEST = 12
FILL, END = ".", ">"
STEPS = "".join(chr(0x400 + place) for place in range(DEPTHS * len(MOVES)))
"""A character for each pair of depth and move."""
ALPHABET = STATES + STEPS + FILL + END
TEST_SHARE = 8


@dataclasses.dataclass(frozen=True)
class Chain:
    """start: 0 to 60. moves: one for each step."""

    start: int
    moves: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """Always the same length."""
        steps = [STEPS[min(depth, DEPTHS - 1) * len(MOVES) + MOVES.index(move)] for depth, move in enumerate(self.moves)]
        return STATES[self.start] + "".join(steps).ljust(LONGEST + 1, FILL) + END

    @property
    def states(self) -> list[int]:
        """After each step."""
        return walk(self.start, self.moves)

    def row(self, name: str, written: str | None = None) -> dict[str, Any]:
        """A row for the data loaders. written: in place of the true states."""
        right = "".join(STATES[state] for state in self.states)
        return {"id": name, "prompt": self.prompt, "completion": written or right, "answer": right[-1], "horizon": len(self.moves)}


def walk(start: int, moves: Sequence[int]) -> list[int]:
    """The states: (start + sum of the moves so far) mod 61."""
    return [int(state) for state in (start + np.cumsum(np.asarray(moves, dtype=np.int64))) % MODULUS]


def chains(n: int, seed: int, split: str, horizon: int) -> list[Chain]:
    """n chains of one horizon. The split is a property of the prompt (a hash): what is held out is never trained on.

    Held-out chains are all different; training chains of one step, of which there are few, come again. Raises UserError.
    """
    generator = rng("long-horizon chains", seed, split, horizon)
    out: list[Chain] = []
    seen: set[Chain] = set()
    misses = 0
    while len(out) < n:
        one = Chain(int(generator.integers(MODULUS)), tuple(int(move) for move in generator.choice(MOVES, size=horizon)))
        held_out = seed_for("long-horizon chain", one.prompt) % TEST_SHARE == 0
        if held_out != (split == "test") or (split == "test" and one in seen):
            misses += 1
            if misses > 1000 * TEST_SHARE:
                raise UserError(f"chains: only {len(out)} of {n} different held-out chains of {horizon} steps; ask for fewer")
            continue
        misses = 0
        seen.add(one)
        out.append(one)
    return out


def careless(problem: Chain, reliability: Sequence[float], generator: np.random.Generator) -> str:
    """The states as a careless teacher writes them: at step j any state at all with chance 1 - Q_j; he goes on from what he wrote."""
    state, written = problem.start, ""
    for move, right in zip(problem.moves, reliability, strict=True):
        state = (state + move) % MODULUS if generator.random() < right else int(generator.integers(MODULUS))
        written += STATES[state]
    return written


def check(text: str, columns: Mapping[str, Any]) -> bool:
    """Right: the last state written is the last state; those before it do not count."""
    return text[-1:] == columns["answer"]


def items(policy: Policy, problems: Sequence[Chain], group_size: int, name: str) -> list[Item]:
    """Items with room for the states and the end."""
    rows = load_rows([one.row(f"{name}-{place}") for place, one in enumerate(problems)])
    made = to_items(rows, policy, group_size, Limits())
    return [dataclasses.replace(item, limits=Limits(max_new_tokens=int(item.columns["horizon"]) + 1)) for item in made]


def whole(text: str, columns: Mapping[str, Any]) -> bool:
    """Right from the first state to the last. Of 128 blind guesses of the last state alone nearly nine in ten sets hold a right one."""
    return text == columns["states"]
