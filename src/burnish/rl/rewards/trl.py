"""Reward functions written for TRL, unchanged: `f(prompts, completions, completion_ids, **columns) -> list of numbers or None`."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from burnish.records import Score, StopReason
from burnish.rl.rewards.errors import broke, function_name, load
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class TRLReward:
    """Calls the function once for each group, with what TRL's GRPO trainer passes.

    prompts, completions: texts, or message lists where the item's prompt is one. completion_ids: lists of token ids. Every other column of
    the item as a list with one entry for each completion. trainer_state: a `transformers.TrainerState` whose global_step counts finished
    steps. log_extra(column, values): kept in `Score.extras`. log_metric(name, value): averaged into `metrics()`.
    A function without **kwargs gets only the arguments it names; a coroutine function is awaited.

    None inside the returned list means "not applicable": reward 0 with extras["not_applicable"], which `weighted` leaves out.
    None instead of a list, a wrong length, NaN, infinity or an exception: UserError naming function, item and remedy.

    function: or its name. decode: token ids -> text, for prompts that are token ids (`policy.decode`); without it the function gets ids.
    success_above: a reward at or above this counts as success; None: success is unknown.
    """

    def __init__(
        self,
        function: Callable[..., Any] | str,
        decode: Callable[[list[int]], str] | None = None,
        success_above: float | None = None,
        name: str | None = None,
    ):
        self.function = load(function)
        if not callable(self.function):
            raise UserError(f"reward trl: {function!r} is not a function")
        self.decode, self.success_above = decode, success_above
        self.name = name or function_name(self.function)
        self.global_step = 0
        self._logged: dict[str, list[float]] = defaultdict(list)
        parameters = inspect.signature(self.function).parameters
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._wants = [name for name, p in parameters.items() if p.default is p.empty and p.kind in kinds]
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        self._accepts = None if open_ended else set(parameters)

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order; a rollout that broke (stop "error") is invalid."""
        extras: dict[str, list[Any]] = {}
        arguments = self._arguments(group, extras)
        lacking = [name for name in self._wants if name not in arguments]
        if lacking:
            there = ", ".join(group.item.columns) or "none"
            raise UserError(
                f"reward {self.name!r} wants {', '.join(map(repr, lacking))}, which item {group.item.id!r} has no column for; "
                f"columns there: {there}; rename one with data.columns"
            )
        if self._accepts is not None:
            arguments = {key: value for key, value in arguments.items() if key in self._accepts}
        try:
            found = self.function(**arguments)
            if inspect.isawaitable(found):
                found = asyncio.run(_awaited(found))
        except UserError:
            raise
        except Exception as error:
            raise broke(self.name, group.item.id, error) from error
        values = self._checked(found, group)
        return [self._score(group, place, value, extras) for place, value in enumerate(values)]

    def _arguments(self, group: Completions, extras: dict[str, list[Any]]) -> dict[str, Any]:
        from transformers import TrainerState

        item, n = group.item, len(group.rollouts)
        prompt: Any = list(item.prompt)
        if not item.is_chat and self.decode is not None:
            prompt = self.decode(prompt)
        completions: list[Any] = [[{"role": "assistant", "content": text}] for text in group.texts] if item.is_chat else list(group.texts)
        reserved = ("prompt", "completion", "completion_ids")
        columns = {key: [value] * n for key, value in item.columns.items() if key not in reserved}

        def log_extra(column: str, values: Any) -> None:
            given = list(values)
            if len(given) != n:
                raise ValueError(f"log_extra({column!r}) got {len(given)} values for {n} completions")
            extras[column] = given

        return {
            **columns,
            "prompts": [prompt] * n,
            "completions": completions,
            "completion_ids": [list(rollout.output_ids) for rollout in group.rollouts],
            "trainer_state": TrainerState(global_step=self.global_step),
            "log_extra": log_extra,
            "log_metric": lambda name, value: self._logged[name].append(float(value)),
        }

    def _checked(self, found: Any, group: Completions) -> list[float | None]:
        name, item, n = self.name, group.item.id, len(group.rollouts)
        if found is None:
            raise UserError(f"reward {name!r} returned None for item {item!r}; return a list with one number (or None) for each completion")
        if isinstance(found, (str, bytes, dict)) or not hasattr(found, "__iter__") or not hasattr(found, "__len__"):
            raise UserError(f"reward {name!r} returned {found!r} for item {item!r}; return a list with one number for each completion")
        if len(found) != n:
            raise UserError(f"reward {name!r} returned {len(found)} values for the {n} completions of item {item!r}; return one for each")
        values: list[float | None] = []
        for place, value in enumerate(found):
            try:
                number = None if value is None else float(value)
            except (TypeError, ValueError):
                number = math.nan
            if number is not None and not math.isfinite(number):
                raise UserError(
                    f"reward {name!r} returned {value!r} for completion {place} of item {item!r}; "
                    "return a finite number, or None where it does not apply"
                )
            values.append(number)
        return values

    def _score(self, group: Completions, place: int, value: float | None, extras: Mapping[str, list[Any]]) -> Score:
        own = {column: values[place] for column, values in extras.items()}
        if group.rollouts[place].stop == StopReason.ERROR:
            return Score(reward=0.0, invalid=True, extras={**own, "reason": "the rollout ended in an error"})
        if value is None:
            return Score(reward=0.0, extras={**own, "not_applicable": True})
        success = None if self.success_above is None else float(value >= self.success_above)
        return Score(reward=value, success=success, parts={self.name: value}, extras=own)

    # --- its life ---------------------------------------------------------------------------------------------------------------------
    def observe(self, batch: Any) -> None:
        """Counts the steps for trainer_state."""
        self.global_step = int(batch.step)

    def metrics(self) -> dict[str, float]:
        """Means of what `log_metric` was given since the last call."""
        found = {name: sum(values) / len(values) for name, values in self._logged.items() if values}
        self._logged.clear()
        return found

    def state_dict(self) -> dict[str, Any]:
        """The step count."""
        return {"global_step": self.global_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.global_step = int(state["global_step"])


async def _awaited(value: Any) -> Any:
    return await value


part = TRLReward
