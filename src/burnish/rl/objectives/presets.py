"""Presets: an objective by the name of its paper. A preset is a value; change a knob with `with_`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.rl.objectives.objective import Objective
from burnish.runs.config import build
from burnish.runs.errors import UserError, did_you_mean

GROUP = ["group_mean", "group_std"]
_CLIP_20: dict[str, Any] = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.2}
_CLIP_28: dict[str, Any] = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}
_TOKEN: dict[str, Any] = {"ratio": "token", "surrogate": _CLIP_20}
_CISPO: dict[str, Any] = {"name": "cispo", "min_ratio": 0.0, "max_ratio": 5.0}
_LOG: dict[str, Any] = {"ratio": "none", "surrogate": "log", "weights": "sequence_sum"}
_K1_REWARD: dict[str, Any] = {"estimator": "k1", "place": "reward"}

KNOBS: dict[str, dict[str, Any]] = {
    "reinforce": {"credit": "moving", **_LOG},
    "rloo": {"credit": "leave_one_out", **_LOG, "kl": {**_K1_REWARD, "beta": 0.05}},
    "grpo": {"credit": GROUP, **_TOKEN, "kl": {"estimator": "k3", "beta": 0.04}, "weights": "sequence_mean"},
    "dr_grpo": {"credit": "group_mean", **_TOKEN, "weights": {"name": "sequence_sum", "max_length": "limit"}},
    "dapo": {"credit": GROUP, "ratio": "token", "surrogate": _CLIP_28, "weights": "prompt_mean"},
    "ppo": {
        "credit": [{"name": "critic", "gamma": 1.0, "lam": 0.95}, "batch_whiten"],
        **_TOKEN,
        "kl": {**_K1_REWARD, "beta": 0.05},
        "weights": "token_mean",
    },
    "reinforce++": {"credit": ["none", "to_go", "batch_whiten"], **_TOKEN, "kl": {**_K1_REWARD, "beta": 0.01}, "weights": "token_mean"},
    "reinforce++-baseline": {
        "credit": ["group_mean", "batch_whiten"],
        **_TOKEN,
        "kl": {"estimator": "k2", "beta": 0.01},
        "weights": "token_mean",
    },
    "gspo": {
        "credit": GROUP,
        "ratio": "sequence",
        "surrogate": {"name": "ppo_clip", "clip_low": 3e-4, "clip_high": 4e-4},
        "weights": "sequence_mean",
    },
    "gmpo": {"credit": GROUP, "ratio": "geometric", "surrogate": "gmpo", "weights": "sequence_mean"},
    "cispo": {"credit": GROUP, "ratio": "token", "surrogate": _CISPO, "weights": "token_mean"},
    "scalerl": {
        "credit": ["group_mean", "batch_std"],
        "ratio": {"name": "token", "against": "sampler"},
        "surrogate": _CISPO,
        "weights": "prompt_mean",
    },
    "lite_ppo": {"credit": ["group_mean", "batch_std"], **_TOKEN, "weights": "token_mean"},
}
"""Knobs of each preset. `dapo` follows the paper's formula; its code's aggregation is `weights="token_mean"`."""

FILTERS: dict[str, tuple[str, ...]] = {"dapo": ("zero_variance",), "scalerl": ("zero_variance",)}
"""Filters a preset asks for (names in `burnish.rl.filters`); none for the others."""


def names() -> list[str]:
    """All presets, sorted."""
    return sorted(KNOBS)


def preset(name: str) -> Objective:
    """A fresh objective. Raises UserError naming the nearest."""
    key = name if name in KNOBS else name.replace("-", "_")
    if key not in KNOBS:
        raise UserError(f"unknown objective {name!r}; {did_you_mean(name, KNOBS)}")
    return build(Objective, {"name": key, **KNOBS[key]}, f"preset {key!r}")


def filters(name: str) -> tuple[str, ...]:
    """The filters that belong to a preset's paper; () for others and for changed or custom objectives' names without a preset."""
    return FILTERS.get(name.rstrip("*"), ())


def make(spec: Any) -> Objective:
    """An objective from a preset's name, `{"preset": name, knob: value, ...}`, `{knob: value, ...}` or an Objective.

    A knob's mapping without a name changes fields of the preset's value: `{"preset": "rloo", "kl": {"beta": 0.01}}`.
    Raises UserError.
    """
    if isinstance(spec, Objective):
        return spec
    if isinstance(spec, str):
        return preset(spec)
    if not isinstance(spec, Mapping):
        raise UserError(f"an objective is a preset's name or a mapping of knobs, not {spec!r}")
    knobs = {str(key): value for key, value in spec.items()}
    base = knobs.pop("preset", None)
    if base is None and set(knobs) == {"name"}:
        base = knobs.pop("name")
    if base is None:
        return build(Objective, knobs, "objective")
    found = preset(base)
    return found.with_(**knobs) if knobs else found
