"""Find a path: `ab,bc,be,cd:a>d=` -> `abcd`. Any simple path along the edges counts."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from burnish.tasks.task import Draft, Task

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class GraphPath(Task):
    """A connected undirected graph with letters as nodes, drawn as a random tree and some more edges; start and goal are no neighbours."""

    name: ClassVar[str] = "graph_path"
    ask: ClassVar[str] = (
        "The pairs of letters are the edges of an undirected graph. Write the nodes of a path from the first letter after the colon to the "
        "second, without spaces and without visiting a node twice. End with a line 'Answer: ...'.\n{question}"
    )

    nodes: int | None = Field(default=None, description="nodes; unset: difficulty + 3")
    extra_edges: int = Field(default=2, description="edges besides the tree's")

    def check_fields(self) -> None:
        self.check("nodes", 3 <= self._nodes <= 26, "from 3 to 26")
        most = math.comb(self._nodes - 1, 2) - 1
        self.check("extra_edges", 0 <= self.extra_edges <= most, f"from 0 to {most} for {self._nodes} nodes (two nodes must stay apart)")

    def draw(self, generator: np.random.Generator) -> Draft:
        names = [str(name) for name in generator.choice(list(LETTERS), size=self._nodes, replace=False)]
        edges = {frozenset((names[i], names[int(generator.integers(0, i))])) for i in range(1, self._nodes)}
        while len(edges) < self._nodes - 1 + self.extra_edges:
            i, other = (int(x) for x in generator.integers(0, (self._nodes, self._nodes - 1)))
            edges.add(frozenset((names[i], names[other + (other >= i)])))
        apart = [(a, b) for a in sorted(names) for b in sorted(names) if a != b and frozenset((a, b)) not in edges]
        start, goal = apart[int(generator.integers(0, len(apart)))]
        listed = sorted("".join(sorted(edge)) for edge in edges)
        key = ",".join(listed) + f":{start}>{goal}"
        order = [listed[int(i)] for i in generator.permutation(len(listed))]
        answer = shortest_path(order, start, goal)
        return Draft(",".join(order) + f":{start}>{goal}=", answer, {"edges": order, "start": start, "goal": goal}, key)

    def space(self) -> int:
        # node sets times labelled trees (Cayley) over the trees one graph can hold at most; the extra edges only add to it
        spanning = math.comb(self._nodes - 1 + self.extra_edges, self.extra_edges)
        return math.comb(26, self._nodes) * self._nodes ** (self._nodes - 2) // spanning

    def correct(self, answer: str, columns: Mapping[str, Any]) -> bool:
        edges = set(columns["edges"])
        path = "".join(answer.replace("-", " ").replace(">", " ").replace(",", " ").split())
        if len(path) < 2 or path[0] != columns["start"] or path[-1] != columns["goal"] or len(set(path)) != len(path):
            return False
        return all("".join(sorted(pair)) in edges for pair in itertools.pairwise(path))

    @property
    def _nodes(self) -> int:
        return self.nodes if self.nodes is not None else self.difficulty + 3


def shortest_path(edges: list[str], start: str, goal: str) -> str:
    """A shortest path in an undirected graph of two-letter edges, the first in the order of the edges; "" where there is none."""
    before = {start: ""}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for edge in edges:
            a, b = edge[0], edge[1]
            if node in (a, b):
                other = b if node == a else a
                if other not in before:
                    before[other] = node
                    queue.append(other)
    path = ""
    node = goal if goal in before else ""
    while node:
        path, node = node + path, before[node]
    return path


part = GraphPath
