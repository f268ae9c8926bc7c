"""Scorers: anything that gives each completion of a group a number. What is missing stays missing (NaN), it is never a zero."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.models.needs import Need
from burnish.records import Score
from burnish.rl.rewards.errors import PACKAGE, broke, function_name
from burnish.rl.rewards.hero.reward_model import RewardModel
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.rewards.weighted import make_reward, reward_name
from burnish.runs.errors import UserError
from burnish.runs.parts import find, names
from burnish.tasks.completions import Completions

REMEDY = (
    "give a reward model's folder or hub id, or a function (file.py:name) of (text, columns), e.g. "
    "--rl.shapers '[{name: hero, scorer: scorer.py:score}]'"
)


class Scorer:
    """spec: one of

    - a folder or hub id of a Hugging Face sequence-classification model, or a mapping with `path` and `RewardModel`'s other arguments;
    - a function or its name: (text, columns) -> number, TRL's (prompts, completions, **columns) -> list, or (group, measured) -> list;
    - a reward by name, mapping or object: its `reward` is the score.

    None, NaN and infinities are missing scores. Raises UserError where nothing of it can be called.
    """

    def __init__(self, spec: Any, who: str):
        if spec is None:
            raise UserError(f"shaper {who} has no scorer; {REMEDY}")
        self.who = who
        self.part = _made(spec, who)
        self.name = function_name(self.part) if inspect.isroutine(self.part) else reward_name(self.part)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the scorer wants measured."""
        return tuple(getattr(self.part, "needs", ()))

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[float]:
        """A float for each completion, NaN where there is none."""
        try:
            found = self._asked(group, measured or {})
        except UserError:
            raise
        except Exception as error:
            raise broke(self.name, group.item.id, error) from error
        if isinstance(found, (str, bytes, Mapping)) or not hasattr(found, "__len__") or len(found) != len(group.texts):
            got = f"{len(found)} values" if hasattr(found, "__len__") and not isinstance(found, (str, bytes, Mapping)) else repr(found)
            raise UserError(
                f"scorer {self.name!r} returned {got} for the {len(group.texts)} completions of item {group.item.id!r}; "
                "it must give one number for each"
            )
        return [self._number(value, group) for value in found]

    def _asked(self, group: Completions, measured: Mapping[str, Any]) -> Any:
        if _of_text(self.part):
            return [self.part(text, group.item.columns) for text in group.texts]
        if inspect.isroutine(self.part) and len(inspect.signature(self.part).parameters) == 1:
            return self.part(group)
        return self.part(group, measured)

    def _number(self, value: Any, group: Completions) -> float:
        if isinstance(value, Score):
            value = None if value.invalid or value.extras.get("not_applicable") else value.reward
        if value is None:
            return math.nan
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(f"scorer {self.name!r} gave {value!r} for item {group.item.id!r}; a score is a number, or None") from None
        return number if math.isfinite(number) else math.nan


def _made(spec: Any, who: str) -> Any:
    if isinstance(spec, Mapping) and "path" in spec and "name" not in spec:
        spec = {"name": "reward_model", **spec}
    if isinstance(spec, str):
        known = spec.replace("-", "_") in names(PACKAGE)
        if not known and ":" not in spec and not spec.endswith(".py") and spec not in names("burnish.tasks"):
            return RewardModel(spec)
        spec = {"name": "task", "task": spec} if not known and spec in names("burnish.tasks") else find(PACKAGE, spec)
    if inspect.isclass(spec):
        spec = spec()
    if inspect.isroutine(spec):
        listed = list(inspect.signature(spec).parameters)
        if {"completions", "prompts", "completion_ids"} & set(listed):
            return TRLReward(_tolerant(spec))
        if listed[:1] == ["group"] or len(listed) == 2:
            return spec
        raise UserError(f"shaper {who}: scorer {function_name(spec)!r} takes ({', '.join(listed)}); {REMEDY}")
    if callable(spec):
        return spec
    return make_reward(spec)


def _of_text(part: Any) -> bool:
    return inspect.isroutine(part) and next(iter(inspect.signature(part).parameters)) != "group"


def _tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    """TRL's function with NaN and infinities as None: "not applicable"."""

    @functools.wraps(function)
    def called(**arguments: Any) -> Any:
        found = function(**arguments)
        if isinstance(found, Sequence) and not isinstance(found, (str, bytes)):
            return [None if isinstance(value, float) and not math.isfinite(value) else value for value in found]
        return found

    return called
