"""Majority vote: the group's most frequent answer stands in for the right one (TTRL, arXiv 2504.16084)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from burnish.records import Score
from burnish.rl.rewards.errors import broke, load
from burnish.rl.rewards.truth import Truth, broken
from burnish.runs.errors import UserError
from burnish.runs.parts import make, names
from burnish.tasks.completions import Completions


class Majority:
    """1 where a rollout's answer is the group's most frequent one (the pseudo-label), else 0. No answer sheet is read.

    extract: text -> answer: a function, its name ("file.py:name"), a task or a task's name (its `answer_of`); None: the whole text,
    stripped. None and "" are no answer: they neither vote nor win. Answers are compared with ==, so `extract` brings them to one form.
    tie: "first": of several most frequent answers the one that came first in the group (as TTRL's code does); "none": nobody wins.
    min_share: the label counts only where at least this share of the rollouts gave it; below, all rewards are 0.
    truth: a verifier (a reward's or a task's name ...) whose verdict becomes `success`; None: success is not known.

    A rollout that broke is invalid and does not vote. `Score.extras` has majority_answer and majority_share. Metrics:
    majority/share, and with `truth` majority/right: how often the label's own rollouts were right.
    A group of one always agrees with itself: evaluate with the verifier, or read eval/success.
    """

    def __init__(self, extract: Any = None, truth: Any = None, tie: str = "first", min_share: float = 0.0, name: str = "majority"):
        if tie not in ("first", "none"):
            raise UserError(f"reward majority: tie is {tie!r}; it must be 'first' or 'none'")
        if not 0 <= min_share <= 1:
            raise UserError(f"reward majority: min_share is {min_share}; it must be in [0, 1]")
        self.extract, self.truth = _extractor(extract), Truth(truth)
        self.tie, self.min_share, self.name = tie, min_share, name
        self._shares: list[float] = []
        self._right: list[float] = []

    @property
    def needs(self) -> tuple[Any, ...]:
        """The verifier's."""
        return self.truth.needs

    def label(self, answers: list[Hashable]) -> tuple[Hashable, float]:
        """(the pseudo-label or None, its share of the given answers). None among the answers: no answer."""
        votes = Counter(answer for answer in answers if answer is not None)
        if not votes:
            return None, 0.0
        (first, most), *others = votes.most_common()
        share = most / len(answers)
        tied = bool(others) and others[0][1] == most
        return (None if (tied and self.tie == "none") or share < self.min_share else first), share

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        answers = [None if broken(rollout) else self._answer(group, place) for place, rollout in enumerate(group.rollouts)]
        label, share = self.label([answer for answer, rollout in zip(answers, group.rollouts) if not broken(rollout)])
        scores = []
        for rollout, answer, success in zip(group.rollouts, answers, self.truth.successes(group, measured), strict=True):
            if broken(rollout):
                scores.append(Score(reward=0.0, invalid=True, extras={"reason": "the rollout ended in an error"}))
                continue
            reward = float(label is not None and answer == label)
            extras = {"majority_answer": None if label is None else str(label), "majority_share": share}
            scores.append(Score(reward=reward, success=success, parts={self.name: reward}, extras=extras))
            if reward and success is not None:
                self._right.append(success)
        self._shares.append(share)
        return scores

    def _answer(self, group: Completions, place: int) -> Hashable:
        try:
            found = self.extract(group.texts[place])
            found = None if found == "" else found
            hash(found)
        except Exception as error:
            raise broke(self.name, group.item.id, error) from error
        return found

    def metrics(self) -> dict[str, float]:
        """Means since the last call."""
        found = {"share": self._shares, "right": self._right}
        self._shares, self._right = [], []
        return {f"{self.name}/{key}": sum(values) / len(values) for key, values in found.items() if values}


def _extractor(spec: Any) -> Any:
    if spec is None:
        return str.strip
    if isinstance(spec, Mapping) or (isinstance(spec, str) and spec in names("burnish.tasks")):
        spec = make("burnish.tasks", spec)
        spec = spec() if isinstance(spec, type) else spec
    found = load(spec)
    if hasattr(found, "answer_of"):
        return lambda text: _plain(found.answer_of(text))
    if not callable(found):
        raise UserError(f"reward majority: extract {spec!r} is neither a function text -> answer nor a task with `answer_of`")
    return found


def _plain(answer: Any) -> Any:
    """A task may say in addition whether the answer stood where it should."""
    return answer[0] if isinstance(answer, tuple) else answer


part = Majority
