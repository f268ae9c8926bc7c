"""Temperature control: the sampling temperature follows a target entropy of the tokens that are drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from burnish.records import Sampling
from burnish.runs.config import Config
from burnish.runs.errors import UserError


class TemperatureConfig(Config):
    """After each step: log T += gain * e + proportional * (e - e of the step before), e = target_entropy - H, T kept in [low, high].

    H is the mean of -log p over the tokens drawn in the step: an unbiased estimate of the entropy at the temperature in use. The first
    term alone is a multiplicative (integral) controller; the second answers at once (PI, in velocity form, so that nothing winds up
    while T stands at a bound). The first step samples at sampling.temperature.
    """

    target_entropy: float = Field(gt=0, description="entropy that is wanted, in nats per token")
    gain: float = Field(0.1, ge=0, description="change of log temperature per nat of error and step")
    proportional: float = Field(0.0, ge=0, description="change of log temperature per nat by which the error has changed")
    low: float = Field(0.3, gt=0, description="lowest temperature")
    high: float = Field(1.5, gt=0, description="highest temperature")


class TemperatureControl:
    """The controller of one run, a part of the Source. config: its settings. start: temperature of the first step.

    Every Turn records the temperature that it was drawn at, and the trainer scores it there. Evaluation keeps its own temperature.
    The temperature is fixed within a step. Raises UserError where low > high or the start lies outside of them.
    """

    def __init__(self, config: TemperatureConfig, start: float = 1.0):
        if not config.low <= start <= config.high:
            raise UserError(
                f"rl.temperature: low {config.low} <= sampling.temperature {start} <= high {config.high} must hold; widen the bounds"
            )
        if not config.gain and not config.proportional:
            raise UserError("rl.temperature: gain and proportional are both 0, so the temperature would never move; set gain above 0")
        self.config = config
        self.temperature = start
        self.step = 0
        self.total = 0.0  # of -log p over the step's tokens
        self.count = 0
        self.error: float | None = None

    def at(self, step: int, sampling: Sampling) -> Sampling:
        """The sampling settings of a step; moves the temperature when the step is a new one."""
        if step != self.step:
            self._move()
            self.step = step
        return dataclasses.replace(sampling, temperature=self.temperature)

    def observe(self, batch: Any) -> None:
        """Adds up the log-probs of one round's drawn tokens."""
        for turn in (turn for group in batch.groups for rollout in group.rollouts for turn in rollout.turns):
            logprobs = turn.logprobs[turn.loss_mask].astype(np.float64)
            self.total -= float(logprobs.sum())
            self.count += len(logprobs)

    @property
    def entropy(self) -> float:
        """Measured so far in this step, nats per token; NaN before any token."""
        return self.total / self.count if self.count else math.nan

    def _move(self) -> None:
        if self.count:
            settings, error = self.config, self.config.target_entropy - self.entropy
            change = settings.gain * error + settings.proportional * (error - (error if self.error is None else self.error))
            self.temperature = min(max(self.temperature * math.exp(change), settings.low), settings.high)
            self.error = error
        self.total, self.count = 0.0, 0

    def metrics(self) -> dict[str, float]:
        """Of the step that was just drawn."""
        return {"sampling/temperature": self.temperature} | ({"sampling/entropy": self.entropy} if self.count else {})

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        names = ("temperature", "step", "total", "count", "error")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)
