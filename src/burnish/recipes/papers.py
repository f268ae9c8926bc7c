"""Recipes of papers: one value for each of the five questions, chosen by name (`rl.recipe`); your own values win."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from burnish.rl.objectives import presets
from burnish.runs.errors import UserError, did_you_mean


def dapo(given: Mapping[str, Any]) -> dict[str, Any]:
    """DAPO (arXiv 2503.14476): clip-higher, no KL, groups without variance drawn again, truncated completions dropped, soft overlong.

    The punishment starts a fifth of max_new_tokens before the limit, as 4,096 of 20,480 do there. It is half as large as in the paper,
    whose rewards are 1 and -1: the same share of the span between right and wrong where your rewards are 1 and 0.
    """
    limit, prompts, rounds = _number(given, "max_new_tokens", 256), _number(given, "prompts_per_step", 8), _number(given, "max_rounds", 10)
    return {
        "objective": "dapo",
        "curriculum": "shuffled_epochs",
        "thinker": "single",
        "shapers": [{"name": "overlong", "max_length": limit, "cache": max(1, limit // 5), "scale": 0.5}],
        "filters": [{"name": "refill", "filter": ["truncated", "zero_variance"], "prompts": prompts, "rounds": rounds}],
        "group_size": 16,
        "max_rounds": 10,
    }


def scalerl(given: Mapping[str, Any]) -> dict[str, Any]:
    """ScaleRL (arXiv 2510.13786): CISPO against the sampler, batch-level scale, groups without variance dropped and not drawn again, items
    solved in 90 % of their last group retired, batches up to 8 updates old.

    Its forced interruption is the thinker `interrupted`, which needs to know your model's end of thinking: set rl.thinker for it.
    """
    return {
        "objective": "scalerl",
        "curriculum": {"name": "retirement", "at": 0.9, "window": "last"},
        "thinker": "single",
        "filters": ["zero_variance"],
        "group_size": 16,
        "lag": 8,
        "epsilon": 1e-15,
        "weight_decay": 0.01,
    }


RECIPES: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {"dapo": dapo, "scalerl": scalerl}


def settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `rl` that a recipe sets. given: the user's own, which some of them are made of. Raises UserError."""
    if name not in RECIPES:
        raise UserError(f"unknown rl.recipe {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name](given)


def brings(preset: str) -> str:
    """What comes with an objective's preset: its filters, and the recipe of its paper. "" where there is nothing."""
    out, filters = "", presets.filters(preset)
    if filters:
        out += f"\n  filters     {', '.join(filters)} (where rl.filters is not set)"
    if preset in RECIPES:
        values = settings(preset, {})
        shown = "; ".join(f"{field} {json.dumps(value)}" for field, value in values.items() if field != "objective")
        out += f"\n  recipe      rl.recipe {preset} sets besides: {shown}"
    return out


def _number(given: Mapping[str, Any], field: str, default: int) -> int:
    """A field of the user's that a recipe's part depends on; a wrong type is refused later, where its place is known."""
    value = given.get(field, default)
    return value if isinstance(value, int) and value > 0 else default
