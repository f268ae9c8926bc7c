"""Recipes of papers: one value for each of the five questions, chosen by name (`rl.recipe`); your own values win.

A recipe is a module here with `recipe(given) -> fields of rl`; given: the fields that the user set. The package's listing finds it.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from typing import Any

from burnish.rl.objectives import presets
from burnish.runs.errors import UserError, did_you_mean


def names() -> list[str]:
    """All recipes, sorted."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `rl` that a recipe sets. given: the user's own, which some of them are made of. Raises UserError."""
    spelled = name.replace("-", "_")
    if spelled not in names():
        raise UserError(f"unknown rl.recipe {name!r}; {did_you_mean(spelled, names())}")
    return importlib.import_module(f"{__name__}.{spelled}").recipe(given)


def brings(preset: str) -> str:
    """What comes with an objective's preset: its filters, and the recipe of its paper. "" where there is nothing."""
    out, filters = "", presets.filters(preset)
    if filters:
        out += f"\n  filters     {', '.join(filters)} (where rl.filters is not set)"
    if preset in names():
        values = settings(preset, {})
        shown = "; ".join(f"{field} {json.dumps(value)}" for field, value in values.items() if field != "objective")
        out += f"\n  recipe      rl.recipe {preset} sets besides: {shown}"
    return out
