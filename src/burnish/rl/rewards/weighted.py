"""Several rewards added up with weights; and how a reward is made from what the user gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.models.needs import Need, union
from burnish.records import Score
from burnish.rl.rewards.errors import PACKAGE, function_name
from burnish.rl.rewards.trl import TRLReward
from burnish.rl.rewards.verifier import Verifier
from burnish.runs.errors import UserError
from burnish.runs.parts import find, make
from burnish.tasks.completions import Completions, checked_scores


class Weighted:
    """reward = sum of weight * share over the rewards that apply.

    rewards: specs as for `make_reward` (or one alone, with one number). weights: one number for each, default 1.
    parts: each share before its weight, by name (numbered where two rewards have the same).
    success: of the first that knows it; a TRL function knows it by success_above (at or above this is a success, None: unknown).
    A rollout is invalid where one share is, or where none applies. token_rewards are added with the weights; prompt weights are
    multiplied.
    """

    def __init__(
        self,
        rewards: Any,
        weights: Sequence[float] | float | None = None,
        decode: Callable[[list[int]], str] | None = None,
        success_above: float | None = None,
    ):
        given_rewards = rewards if isinstance(rewards, (list, tuple)) else [rewards]
        self.rewards = [make_reward(spec, decode, success_above) for spec in given_rewards]
        if not self.rewards:
            raise UserError("no reward is configured; name one, such as a task or file.py:function")
        given = [weights] if isinstance(weights, (int, float)) else list(weights or [1.0] * len(self.rewards))
        self.weights = [float(weight) for weight in given]
        if len(self.weights) != len(self.rewards):
            raise UserError(f"there are {len(self.weights)} weights for {len(self.rewards)} rewards; give one for each")
        if not np.isfinite(self.weights).all():
            raise UserError(f"the reward weights {self.weights} must be finite numbers")
        self.names = _distinct([reward_name(reward) for reward in self.rewards])
        self.name = self.names[0] if len(self.names) == 1 else "weighted"
        if decode is not None:
            self.bind(decode)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the rewards want measured."""
        return union(*(getattr(reward, "needs", ()) for reward in self.rewards))

    def bind(self, decode: Callable[[list[int]], str]) -> None:
        """Hands `decode` to rewards that were made before there was a policy."""
        for reward in self.rewards:
            bind(reward, decode)

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        columns = [
            checked_scores(name, reward(group, measured or {}), group.item.id, group.rollouts)
            for reward, name in zip(self.rewards, self.names, strict=True)
        ]
        return [self._sum([scores[place] for scores in columns]) for place in range(len(group.rollouts))]

    def _sum(self, shares: Sequence[Score]) -> Score:
        applies = [not share.extras.get("not_applicable", False) for share in shares]
        out = Score(reward=0.0, invalid=any(share.invalid for share in shares) or not any(applies))
        for share, weight, name, used in zip(shares, self.weights, self.names, applies, strict=True):
            out.extras |= {key: value for key, value in share.extras.items() if key != "not_applicable"}
            if not used:
                continue
            out.reward += weight * share.reward
            out.parts |= {**share.parts, name: share.reward}
            out.success = share.success if out.success is None else out.success
            out.prompt_weight *= share.prompt_weight
            if share.token_rewards is not None:
                before = 0.0 if out.token_rewards is None else out.token_rewards
                out.token_rewards = before + weight * np.asarray(share.token_rewards, dtype=np.float64)
        if not any(applies):
            out.extras["reason"] = "no reward applies"
        return out

    # --- their lives ------------------------------------------------------------------------------------------------------------------
    def observe(self, batch: Any) -> None:
        """Handed on."""
        for reward in self.rewards:
            if hasattr(reward, "observe"):
                reward.observe(batch)

    def metrics(self) -> dict[str, float]:
        """Of all rewards that log some."""
        found: dict[str, float] = {}
        for reward in self.rewards:
            if hasattr(reward, "metrics"):
                found |= reward.metrics()
        return found

    def state_dict(self) -> dict[str, Any]:
        """By name."""
        return {name: reward.state_dict() for name, reward in zip(self.names, self.rewards, strict=True) if hasattr(reward, "state_dict")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, reward in zip(self.names, self.rewards, strict=True):
            if name in state:
                reward.load_state_dict(state[name])


def bind(part: Any, decode: Callable[[list[int]], str]) -> None:
    """Tells a reward or shaper that asks for it how the policy's ids are decoded: by its own `bind`, or a `decode` that is None."""
    if hasattr(part, "bind"):
        part.bind(decode)
    elif getattr(part, "decode", part) is None:
        part.decode = decode


def make_reward(spec: Any, decode: Callable[[list[int]], str] | None = None, success_above: float | None = None) -> Any:
    """A reward from a name ("format", "module:function", "file.py:function"), a mapping with arguments, an object or a function.

    A plain function is taken by its parameters: (group, measured) is one of ours, `completions` or `prompts` is TRL's, and two
    parameters, text and columns, are a verifier. An object with `score(text, columns)` is a task. Raises UserError.
    """
    made = spec
    if isinstance(spec, Mapping):
        part = find(PACKAGE, str(spec.get("name", "")))
        if inspect.isfunction(part) and len(spec) == 1:
            made = part
        else:
            takes_decode = part is TRLReward or part is Weighted
            made = make(PACKAGE, {**spec, "decode": decode} if takes_decode and "decode" not in spec else dict(spec))
    elif isinstance(spec, str):
        made = find(PACKAGE, spec)
    if inspect.isclass(made):
        made = make(PACKAGE, {"name": spec}) if isinstance(spec, str) else made()
    if inspect.isroutine(made):
        return _function(made, decode, success_above)
    if hasattr(made, "score") and not callable(made):
        return Verifier(made)
    if callable(made):
        return made
    raise UserError(f"reward {spec!r} is neither a function nor an object that can be called; see the signatures of burnish.rl.rewards")


def _function(function: Callable[..., Any], decode: Callable[[list[int]], str] | None, success_above: float | None) -> Any:
    names = list(inspect.signature(function).parameters)
    if names[:1] == ["group"]:
        return function
    if {"completions", "prompts", "completion_ids"} & set(names):
        return TRLReward(function, decode=decode, success_above=success_above)
    if len(names) == 2:
        return Verifier(function)
    raise UserError(
        f"reward {function_name(function)!r} takes ({', '.join(names)}); write it as (prompts, completions, **kwargs) like TRL's, "
        "as (text, columns), or as (group, measured)"
    )


def reward_name(reward: Any) -> str:
    """A reward's name in metrics and messages."""
    return str(getattr(reward, "name", None) or getattr(reward, "__name__", None) or type(reward).__name__.lower())


def _distinct(names: Sequence[str]) -> list[str]:
    out: list[str] = []
    for name in names:
        out.append(name if name not in out else f"{name}_{1 + sum(other == name or other.startswith(f'{name}_') for other in out)}")
    return out


part = Weighted
