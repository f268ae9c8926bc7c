"""What methods do on the command line, found by listing packages: `burnish method SLUG ACTION`, `burnish data NAME`, `burnish eval NAME`.

- a module or package named after the method, in any room below, may export `actions`: {name: Action};
- a module of `burnish.data` may export `command`: an Action under the module's own name;
- a module of `burnish.evaluation` may export `evals`: {name: Action}.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from burnish.runs.actions import Action
from burnish.runs.errors import UserError, did_you_mean

ROOMS = ("data", "tasks", "chat", "inference", "models", "sft", "rl", "discovery", "agents", "evaluation")
"""Where methods live."""


def methods() -> dict[str, dict[str, Action]]:
    """Every method with actions, by slug. Imports all rooms: for overviews and for errors."""
    names = sorted({name.rpartition(".")[2] for name in modules()})
    found = {name.replace("_", "-"): actions_of(name) for name in names}
    return {slug: actions for slug, actions in found.items() if actions}


def actions_of(slug: str) -> dict[str, Action]:
    """The actions of one method, those of all its modules together; {} where there is none."""
    out: dict[str, Action] = {}
    for name in modules():
        if name.rpartition(".")[2] == slug.replace("-", "_") and (module := _imported(name)) is not None:
            out |= _actions_in(module, "actions")
    return out


def action(slug: str, name: str) -> Action:
    """One action. Raises UserError naming the nearest."""
    found = actions_of(slug)
    if not found:
        raise UserError(f"there is no method {slug!r} with actions; {did_you_mean(slug, methods())}")
    if name not in found:
        raise UserError(f"method {slug} has no action {name!r}; {did_you_mean(name, found)}")
    return found[name]


def data_commands() -> dict[str, Action]:
    """What `burnish data` makes, by name as typed."""
    modules_of_data = {module.__name__.rpartition(".")[2]: module for module in _modules_in("burnish.data")}
    found = {name.replace("_", "-"): getattr(module, "command", None) for name, module in modules_of_data.items()}
    return {name: command for name, command in sorted(found.items()) if isinstance(command, Action)}


def evals() -> dict[str, Action]:
    """What `burnish eval` measures besides held-out success, by name."""
    out: dict[str, Action] = {}
    for module in _modules_in("burnish.evaluation"):
        out |= _actions_in(module, "evals")
    return out


def modules() -> Iterator[str]:
    """The dotted names of all modules and packages in the rooms; none but the rooms themselves are imported."""
    for room in ROOMS:
        if (package := _imported(f"burnish.{room}")) is not None:
            yield from _below(package.__name__, list(package.__path__))


def _below(package: str, paths: list[str]) -> Iterator[str]:
    for info in pkgutil.iter_modules(paths):
        if not info.name.startswith("_"):
            yield f"{package}.{info.name}"
            if info.ispkg:
                yield from _below(f"{package}.{info.name}", [f"{path}/{info.name}" for path in paths])


def _modules_in(package: str) -> list[ModuleType]:
    place = _imported(package)
    names = sorted(info.name for info in pkgutil.iter_modules(place.__path__) if not info.name.startswith("_")) if place is not None else []
    return [module for name in names if (module := _imported(f"{package}.{name}")) is not None]


def _imported(name: str) -> ModuleType | None:
    """None where a package that only an extra installs is missing: the method then has nothing to offer here."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").split(".")[0] == "burnish" and error.name != name:
            raise
        return None


def _actions_in(module: ModuleType, name: str) -> dict[str, Action]:
    found = getattr(module, name, None)
    return {key: one for key, one in found.items() if isinstance(one, Action)} if isinstance(found, dict) else {}
