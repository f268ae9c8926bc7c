"""A rubric: a list of criteria, each answered yes or no by a chat model; the reward is the weighted share that is met."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.records import Item, Score, StopReason
from burnish.rl.rewards.judging import Bench, check_template, column_of, last_value, prompt, question_of
from burnish.runs.errors import UserError, did_you_mean
from burnish.tasks.completions import Completions

TEMPLATE = "Does the completion, an answer to the question, meet the criterion?\n\nCriterion:\n\n{criterion}\n\n{question}\n\n{completion}"
TASK = 'Decide whether the completion meets the criterion. Answer with {"met": true} or {"met": false} alone on the last line.'


@dataclasses.dataclass(frozen=True)
class Criterion:
    """text: what must hold. weight: above 0. name: in `Score.parts`."""

    text: str
    weight: float
    name: str


class Rubric:
    """reward = sum of the weights of the criteria that are met / sum of all weights.

    criteria: a list of texts, or of {"criterion": text, "weight": number, "name": text}; or the name of the column that holds such a list,
    for criteria of each row. parts: `{label}/{name}` is 1 or 0 for each (the name is else its place, from 1).
    One verdict that failed makes the Score invalid: a share of what was answered would reward failures. success_above: as in `Judge`.
    template: with {criterion}, {completion} and, where wanted, {question} and columns. The rest is as in `Judge`.
    """

    def __init__(
        self,
        chat: Any = None,
        criteria: Sequence[Any] | str | None = None,
        template: str = TEMPLATE,
        question: str | None = None,
        options: Mapping[str, Any] | None = None,
        success_above: float | None = 1.0,
        timeout: float | None = None,
        give_up_after: int = 64,
        cache: int = 10_000,
        label: str = "rubric",
    ) -> None:
        self.where, self.name = f"reward {label}", label
        if not criteria:
            raise UserError(f"{self.where}: criteria is empty; give a list of criteria, or the name of the column that holds it")
        self.column = criteria if isinstance(criteria, str) else None
        self.criteria = None if isinstance(criteria, str) else read_criteria(criteria, f"{self.where}: criteria")
        self.template = check_template(template, ("criterion", "completion"), self.where)
        self.question, self.success_above = question, success_above
        self.bench = Bench(chat, self.where, {"temperature": 0.0, **(options or {})}, timeout, give_up_after, cache)
        self.decode: Callable[[list[int]], str] | None = None

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order; all criteria of all completions are judged at once."""
        criteria = self.criteria_of(group.item)
        judged = [place for place, rollout in enumerate(group.rollouts) if rollout.stop != StopReason.ERROR]
        pairs = [(place, one) for place in judged for one in criteria]
        verdicts = self.bench.ask([self.conversation(group, place, one) for place, one in pairs], read)
        found: dict[int, list[float | str]] = {place: [] for place in range(len(group.rollouts))}
        for (place, _), verdict in zip(pairs, verdicts, strict=True):
            found[place].append(verdict)
        return [self._score(criteria, found[place]) for place in range(len(group.rollouts))]

    def criteria_of(self, item: Item) -> list[Criterion]:
        """The criteria for one item. Raises UserError where its column holds none."""
        if self.criteria is not None:
            return self.criteria
        assert self.column is not None
        return read_criteria(column_of(item, self.column, self.where), f"{self.where}: column {self.column!r} of item {item.id!r}")

    def conversation(self, group: Completions, place: int, criterion: Criterion) -> list[dict[str, Any]]:
        """What the judge is shown for one criterion of one completion."""
        values: dict[str, Any] = {**group.item.columns, "completion": group.texts[place], "criterion": criterion.text}
        if "{question}" in self.template:
            values["question"] = question_of(group.item, self.question, self.decode, self.where)
        return prompt(self.template, TASK, values, self.where)

    def _score(self, criteria: Sequence[Criterion], verdicts: Sequence[float | str]) -> Score:
        failed = [verdict for verdict in verdicts if isinstance(verdict, str)] if verdicts else ["the rollout ended in an error"]
        parts = {f"{self.name}/{one.name}": met for one, met in zip(criteria, verdicts) if not isinstance(met, str)}
        if failed:
            return Score(reward=0.0, invalid=True, parts=parts, extras={"reason": f"{self.name}: {failed[0]}"})
        share = sum(one.weight * float(met) for one, met in zip(criteria, verdicts)) / sum(one.weight for one in criteria)
        success = None if self.success_above is None else float(share >= self.success_above)
        return Score(reward=share, success=success, parts={**parts, self.name: share})

    # --- its life -------------------------------------------------------------------------------------------------------------------------
    def metrics(self) -> dict[str, float]:
        """Of the verdicts since the last call."""
        return self.bench.metrics(self.name)

    def state_dict(self) -> dict[str, Any]:
        """The verdicts known."""
        return self.bench.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.bench.load_state_dict(state)


def read_criteria(given: Any, where: str) -> list[Criterion]:
    """The criteria that a config or a row gives. Raises UserError naming the place."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence) or not given:
        raise UserError(f"{where} is {given!r}; it must be a list of criteria")
    out = []
    for place, one in enumerate(given, 1):
        entry = {"criterion": one} if isinstance(one, str) else one
        if not isinstance(entry, Mapping):
            raise UserError(f"{where}[{place - 1}] is {one!r}; it must be text or {{criterion: ..., weight: ...}}")
        entry = {key: value for key, value in entry.items() if value is not None}
        for key in entry:
            if key not in ("criterion", "weight", "name"):
                raise UserError(f"{where}[{place - 1}].{key} is unknown; {did_you_mean(str(key), ('criterion', 'weight', 'name'))}")
        text, weight = entry.get("criterion"), entry.get("weight", 1.0)
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}[{place - 1}].criterion is missing; say what must hold")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise UserError(
                f"{where}[{place - 1}].weight is {weight!r}; it must be a number above 0 (say a fault as a criterion not to have it)"
            )
        out.append(Criterion(text.strip(), float(weight), str(entry.get("name", place))))
    if len({one.name for one in out}) < len(out):
        raise UserError(f"{where}: two criteria have the same name; name them apart")
    return out


def read(text: str) -> float:
    """1 or 0 for an answer's yes or no. Raises ValueError where it says neither."""
    found = last_value(text)
    met = found.get("met") if isinstance(found, dict) else None
    if not isinstance(met, bool):
        word = re.fullmatch(r"(yes|no)\.?", text.strip().lower())
        if word is None:
            shown = " ".join(text.split())[-80:]
            raise ValueError(f"neither yes nor no in the answer that ends {shown!r}")
        met = word[1] == "yes"
    return float(met)


part = Rubric
