"""Paths in one fixed graph: `aq>` -> `acfsbtq`. Every way of seven nodes from the first letter to the second along the edges counts.

The graph is the same for all prompts, so that a small model can learn its edges by heart; each pair of nodes has tens of right answers, and
which nodes are worth visiting differs from pair to pair. Pairs, not answers, are held out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from burnish.runs.seeds import rng, seed_for

NODES = "abcdefghijklmnopqrstuvwx"
DEGREE = 3
"""Edges leave every node so often."""
LENGTH = 7
"""Nodes of an answer, both ends included."""
FEWEST, MOST = 10, 50
"""Right answers of a pair."""
TEST_SHARE = 4
ALPHABET = NODES + ">"
NEW_TOKENS = LENGTH + 1


@dataclasses.dataclass(frozen=True)
class Pair:
    """start, goal: nodes. answers: every simple path of LENGTH nodes."""

    start: str
    goal: str
    answers: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """As the policy reads it."""
        return f"{self.start}{self.goal}>"


def edges(seed: int = 0) -> dict[str, str]:
    """node -> the nodes that an edge leads to, of the one directed graph."""
    generator = rng("g2rl graph", seed)
    out = {}
    for place, node in enumerate(NODES):
        others = [one for one in NODES if one != node]
        ring = NODES[(place + 1) % len(NODES)]  # from everywhere one gets everywhere
        drawn = [str(one) for one in generator.permutation([one for one in others if one != ring])[: DEGREE - 1]]
        out[node] = "".join(sorted([ring, *drawn]))
    return out


EDGES = edges()


def paths(start: str, goal: str) -> list[str]:
    """All simple paths of LENGTH nodes, sorted."""
    found, open_paths = [], [start]
    while open_paths:
        path = open_paths.pop()
        if len(path) == LENGTH:
            found += [path] if path[-1] == goal else []
        elif goal not in path:
            open_paths += [path + node for node in EDGES[path[-1]] if node not in path]
    return sorted(found)


def pairs() -> list[Pair]:
    """All pairs that have from FEWEST to MOST answers."""
    out = []
    for start in NODES:
        for goal in NODES:
            if goal != start:
                answers = paths(start, goal)
                if FEWEST <= len(answers) <= MOST:
                    out.append(Pair(start, goal, tuple(answers)))
    return out


def split(part: str) -> list[Pair]:
    """The pairs of "train" or "test": a property of the pair itself, the same for every seed."""
    return [one for one in pairs() if (seed_for("g2rl pair", one.prompt) % TEST_SHARE == 0) == (part == "test")]


def check(text: str, columns: Mapping[str, Any]) -> bool:
    """Whether it is one of the right answers."""
    return text in columns["answers"]


def demonstrations(n: int, seed: int, slips: float) -> list[dict[str, Any]]:
    """Rows of a careless teacher on train pairs: any right path, in which each node between the ends is another with chance `slips`."""
    generator, given = rng("g2rl demonstrations", seed), split("train")
    out = []
    for place in range(n):
        pair = given[int(generator.integers(len(given)))]
        path = list(pair.answers[int(generator.integers(len(pair.answers)))])
        for at in range(1, len(path) - 1):
            if generator.random() < slips:
                path[at] = NODES[int(generator.integers(len(NODES)))]
        out.append({"id": f"sft-{place}", "prompt": pair.prompt, "completion": "".join(path)})
    return out


def rows(given: list[Pair], name: str) -> list[dict[str, Any]]:
    """Rows for the data loaders."""
    return [{"id": f"{name}-{place}", "prompt": one.prompt, "answers": list(one.answers)} for place, one in enumerate(given)]


def drawn(n: int, seed: int) -> list[Pair]:
    """n train pairs in the order in which they are trained on: all once, shuffled, then all again."""
    generator, given = rng("g2rl draws", seed), split("train")
    order = np.concatenate([generator.permutation(len(given)) for _ in range(-(-n // len(given)))])[:n]
    return [given[int(place)] for place in order]
