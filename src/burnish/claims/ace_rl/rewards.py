"""The rewards of ace-rl.1, one for each arm; and the exact program that measures them all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.claims.ace_rl.verifier import SelfVerifier
from burnish.claims.ace_rl.world import confused, grade, holistic
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.records import Score
from burnish.rl.rewards.ace_rl import AceRL, LengthBand
from burnish.rl.rewards.weighted import Weighted
from burnish.tasks.completions import Completions


def reward_of(arm: str, settings: Mapping[str, Any], shared: Path) -> Any:
    """checklist: the confused program and the length; no-length: the same without it; self-verifier: the head in the program's place;
    holistic: the one number in the checklist's place."""
    if arm == "holistic":
        return Weighted([Holistic(settings["noise"]), LengthBand()], [0.5, 0.5])
    if arm == "self-verifier":
        return AceRL(SelfVerifier(Policy(*load_model(str(shared / "model"))), shared / "head.safetensors"))
    judge = functools.partial(confused, rate=settings["confusion"])
    return AceRL(judge, length_weight=0.0 if arm == "no-length" else 0.5)


class Holistic:
    """(number - 1) / 9 of the holistic judge."""

    name = "holistic"

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout; an empty text gets 0."""
        values = [(holistic(text, group.item.columns["instruction"], self.noise) - 1) / 9 if text else 0.0 for text in group.texts]
        return [Score(reward=value, parts={self.name: value}) for value in values]


def measured(group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
    """By the exact program: reward = satisfaction, and in the parts the length and its error |L / target - 1|."""
    codes = [item["text"] for item in group.item.columns["checklist"]]
    out = []
    for text in group.texts:
        met = sum(grade(code, text) for code in codes) / len(codes) if text else 0.0
        parts = {"length": float(len(text)), "length_error": abs(len(text) / group.item.columns["target_length"] - 1)}
        out.append(Score(reward=met, success=float(met == 1), parts=parts))
    return out
