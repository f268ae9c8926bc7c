"""Every pair of parts from different folders of `burnish.rl`, as fields of `rl`: generated from what the folders hold."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path
from typing import Any

from burnish.rl.objectives import presets
from burnish.runs import parts

ROOMS = ("curricula", "rollouts", "rewards", "filters", "credit", "objectives")
USER = Path(__file__).with_name("user_parts.py")
Part = tuple[str, str]


def specs() -> dict[str, dict[str, Any]]:
    """room -> part -> arguments, of all files in `specs/`; "with" -> "room/part" -> the fields of `rl` it cannot do
    without; "columns" -> name -> a value for every row.
    """
    out: dict[str, dict[str, Any]] = {room: {} for room in (*ROOMS, "with", "columns")}
    for info in pkgutil.iter_modules([str(Path(__file__).with_name("specs"))]):
        for room, found in importlib.import_module(f"combinations.specs.{info.name}").SPECS.items():
            out[room] |= found
    return out


def names(room: str) -> list[str]:
    """Every part of a room."""
    return presets.names() if room == "objectives" else sorted(parts.names(f"burnish.rl.{room}"))


def every_pair() -> list[tuple[Part, Part]]:
    """In a fixed order."""
    folders = [[(room, name) for name in names(room)] for room in ROOMS]
    return [pair for one, other in itertools.combinations(folders, 2) for pair in itertools.product(one, other)]


def spec_of(room: str, name: str, arguments: dict[str, dict[str, Any]]) -> Any:
    """As it would stand in a config."""
    return {"name": name, **arguments[room][name]} if name in arguments[room] else name


def every_part() -> list[Part]:
    """In a fixed order."""
    return [(room, name) for room in ROOMS for name in names(room)]


def fields(pair: tuple[Part, ...], arguments: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields of `rl` that put the parts into one run; a reward that varies inside groups stands beside every other.

    A part that works with another one only (arguments["with"]) gets it, unless the pair decides on that.
    """
    chosen = {room: (name, spec_of(room, name, arguments)) for room, name in pair}
    wanted = [arguments["with"].get(f"{room}/{name}", {}) for room, name in pair]
    out: dict[str, Any] = {"rewards": [f"{USER}:more_letters"], "shapers": [one for found in wanted for one in found.get("shapers", [])]}
    out |= next(({"thinker": found["thinker"]} for found in wanted if "thinker" in found), {})
    for field, room in (("curriculum", "curricula"), ("thinker", "rollouts")):
        if room in chosen:
            out[field] = chosen[room][1]
    if "filters" in chosen:
        out["filters"] = [chosen["filters"][1]]
    if "rewards" in chosen:
        name, spec = chosen["rewards"]
        shapes = hasattr(parts.find("burnish.rl.rewards", name), "shape")
        out["shapers" if shapes else "rewards"].append(spec)
    preset = next((found["objective"] for found in wanted if "objective" in found), "dr_grpo")
    objective: dict[str, Any] = {"preset": chosen["objectives"][0] if "objectives" in chosen else preset}
    if "credit" in chosen:
        name, spec = chosen["credit"]
        objective["credit"] = [spec] if _kind(name) == "baseline" else ["group_mean", spec]
    return {**out, "objective": objective if len(objective) > 1 else objective["preset"]}


def _kind(name: str) -> str:
    found = parts.find("burnish.rl.credit", name)
    return getattr(found, "kind", "") if inspect.isclass(found) else ""
