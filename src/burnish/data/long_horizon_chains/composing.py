"""Chains of h problems in one prompt, each later one with a number made of the answer before it. h1 (arXiv 2510.07312)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from burnish.data.long_horizon_chains.adapters import DEFAULT, Adapter, adapters, draw
from burnish.data.long_horizon_chains.chain import BOUND, Function, Invalid, depends, refuse, walk
from burnish.data.long_horizon_chains.problems import Executor, Problem, Slot, results_for, solve
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng, seed_for

Link = Literal["substitute", "add"]
TRIES = 400
"""Links that are tried for one place of a chain, and chains for one row, before the data is called too small."""

HEAD = "Solve these {h} problems in order. A later problem needs the answer before it.\n\n"
TAIL = "Reason step by step. The answer that is wanted is that of problem {h}: write it last, as \\boxed{{number}}."
TAIL_ONE = "Reason step by step. Write the answer last, as \\boxed{number}."


@dataclasses.dataclass(frozen=True)
class Place:
    """One problem in its chain. slot: None where the earlier answer is added to the problem's own. adapter: None for the first."""

    problem: Problem
    slot: Slot | None
    adapter: Adapter | None


@dataclasses.dataclass(frozen=True)
class Composed:
    """One chain. inputs, answers: x_j and y_j, whole numbers; the answers before the last are for diagnosis, never for a reward."""

    places: tuple[Place, ...]
    inputs: tuple[int, ...]
    answers: tuple[int, ...]
    prompt: str

    def row(self) -> dict[str, Any]:
        """A row for the data loaders."""
        name = hashlib.blake2b(self.prompt.encode(), digest_size=6).hexdigest()
        return {
            "id": f"chain-{len(self.places)}-{name}",
            "prompt": self.prompt,
            "answer": str(self.answers[-1]),
            "horizon": len(self.places),
            "answers": list(self.answers),
            "inputs": list(self.inputs),
            "problems": [place.problem.id for place in self.places],
            "adapters": [place.adapter.text for place in self.places if place.adapter is not None],
        }


@dataclasses.dataclass
class Composition:
    """chains: the valid ones. rejected: links and chains that were tried and not taken, by reason."""

    chains: list[Composed]
    rejected: Counter[str]


def compose(
    problems: Sequence[Problem],
    h: int,
    n: int = 1,
    *,
    executor: Executor,
    adapters: Sequence[str | Adapter] = DEFAULT,
    seed: int = 0,
    link: Link = "substitute",
    bound: int = BOUND,
) -> Composition:
    """n different chains of h different problems. executor: the value of an expression, such as `burnish.tasks.expressions.evaluate`.

    link: "substitute" replaces a number of the next problem, and one of the first as well, so that success at h = 1 is measured on
    substituted problems; "add" adds the earlier answer to the next problem's own, which needs no executable solution.
    A link with a bad number is rejected and drawn again; a chain is rejected where an answer does not reach the end ("shortcut"), or where
    the last answer stood there before ("repeated"), since an answer on the way would then count.

    Raises UserError for too few problems, and where the draws do not lead to n chains, with the counts.
    """
    if h < 1 or n < 1:
        raise UserError(f"chains: horizon {h} and count {n} must be at least 1")
    usable = [one for one in problems if (one.slots if link == "substitute" else _whole(one, bound))]
    if len(usable) < h:
        count = f"only {len(usable)} of {len(problems)} problems can be linked by {link!r}"
        raise UserError(f"chains: {count}, {h} are needed; {_why(problems)}")
    among = _adapters(adapters)
    maker = _Maker(usable, among, executor, link, bound, rng("chains", seed, h, link))
    found: dict[str, Composed] = {}
    misses = 0
    while len(found) < n:
        chain = maker.chain(h)
        if chain is None or chain.prompt in found:
            misses += 1
            if misses > TRIES:
                counts = ", ".join(f"{reason} {count}" for reason, count in maker.rejected.most_common(4))
                raise UserError(
                    f"chains: {len(found)} of {n} chains of {h} problems found ({counts}); give more problems or other adapters"
                )
            continue
        misses = 0
        found[chain.prompt] = chain
    return Composition(list(found.values()), maker.rejected)


def _adapters(given: Sequence[str | Adapter]) -> tuple[Adapter, ...]:
    made = [one for one in given if isinstance(one, Adapter)]
    named = [one for one in given if isinstance(one, str)]
    return (*made, *adapters(named)) if named or not made else tuple(made)


def _whole(problem: Problem, bound: int) -> bool:
    return problem.answer.denominator == 1 and 0 <= problem.answer <= bound


def _why(problems: Sequence[Problem]) -> str:
    common = Counter(one.why for one in problems if one.why).most_common(1)
    return f"most often: {common[0][0]} (link 'add' needs answers alone)" if common else "give more problems"


class _Maker:
    """Draws chains and counts what it rejects."""

    def __init__(
        self,
        problems: Sequence[Problem],
        among: Sequence[Adapter],
        executor: Executor,
        link: Link,
        bound: int,
        generator: np.random.Generator,
    ):
        self.problems, self.among, self.executor, self.link, self.bound = problems, among, executor, link, bound
        self.generator = generator
        self.rejected: Counter[str] = Counter()

    def chain(self, h: int) -> Composed | None:
        """One valid chain, or None where one was rejected or could not be carried on."""
        places: list[Place] = []
        inputs: list[Fraction] = []
        answers: list[Fraction] = []
        while len(places) < h:
            found = self._next(places, answers)
            if found is None:
                self.rejected["no next problem"] += 1
                return None
            place, x, y = found
            places.append(place)
            inputs.append(x)
            answers.append(y)
        reason = self._fault(places, inputs, answers)
        if reason:
            self.rejected[reason] += 1
            return None
        whole = [tuple(int(value) for value in values) for values in (inputs, answers)]
        return Composed(tuple(places), whole[0], whole[1], written(places, whole[0][0]))

    def _next(self, places: Sequence[Place], answers: Sequence[Fraction]) -> tuple[Place, Fraction, Fraction] | None:
        used = {place.problem.key for place in places}
        for _ in range(TRIES):
            problem = self._any(self.problems)
            if problem.key in used:
                continue
            slot = self._any(problem.slots) if self.link == "substitute" else None
            between = draw(self.among, self.generator) if places or slot else None
            try:
                if places:
                    assert between is not None
                    x = between.apply(answers[-1])
                else:  # a first number of the same kind as those that later problems get
                    x = between.apply(self._any(self.problems).answer) if between is not None else Fraction(0)
                y = self._answer(problem, slot, x)
            except Invalid as error:
                self.rejected[error.reason] += 1
                continue
            return Place(problem, slot, between if places else None), x, y
        return None

    def _answer(self, problem: Problem, slot: Slot | None, x: Fraction) -> Fraction:
        if slot is not None:
            return solve(problem, slot, x, self.executor, self.bound)
        refuse(x, self.bound)
        refuse(problem.answer + x, self.bound)
        return problem.answer + x

    def _fault(self, places: Sequence[Place], inputs: Sequence[Fraction], answers: Sequence[Fraction]) -> str:
        functions = [self._function(place) for place in places]
        between = [place.adapter.apply for place in places[1:] if place.adapter is not None]
        assert walk(inputs[0], functions, between).answers == tuple(answers)
        if not all(depends(answers, functions, between)):
            return "shortcut"
        return "repeated" if answers[-1] in (*answers[:-1], *inputs) and len(places) > 1 else ""

    def _function(self, place: Place) -> Function:
        slot = place.slot
        if slot is None:
            return lambda x: place.problem.answer + x
        return lambda x: results_for(slot, x, self.executor)[-1]

    def _any(self, among: Sequence[Any]) -> Any:
        return among[int(self.generator.integers(len(among)))]


def written(places: Sequence[Place], first: int) -> str:
    """The prompt: all problems in order, later ones naming the answers before them as A1, A2 ...; the last answer alone is asked for."""
    h = len(places)
    parts = []
    for j, place in enumerate(places, start=1):
        said = place.adapter.said(f"A{j - 1}") if place.adapter is not None else ""
        if place.slot is not None and place.adapter is not None:
            text = f"Let X{j} be {said}. {place.problem.with_number(place.slot, f'X{j}')}"
        elif place.slot is not None:
            text = place.problem.with_number(place.slot, str(first))
        elif place.adapter is not None:
            text = f"Find the answer to this question, and then add {said} to it. {place.problem.question}"
        else:
            text = place.problem.question
        parts.append(f"Problem {j}: {text}" + (f" Call the answer A{j}." if j < h else ""))
    if h == 1:
        return f"{parts[0].removeprefix('Problem 1: ')}\n\n{TAIL_ONE}"
    return HEAD.format(h=h) + "\n\n".join(parts) + "\n\n" + TAIL.format(h=h)


def split(problems: Sequence[Problem], share: float, seed: int = 0) -> tuple[list[Problem], list[Problem]]:
    """(train, test), disjoint in atomic problems: those that differ in their numbers alone fall on the same side.

    The side is a property of the text and the seed. Raises UserError where share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise UserError(f"chains: the test share is {share}; it must lie in [0, 1)")
    held = [seed_for("chain split", seed, one.key) % 1_000_000 < share * 1_000_000 for one in problems]
    return [one for one, out in zip(problems, held) if not out], [one for one, out in zip(problems, held) if out]
