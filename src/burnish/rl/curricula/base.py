"""What curricula over a fixed list of items share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Item
from burnish.runs.errors import UserError
from burnish.runs.parts import find, make

PACKAGE = "burnish.rl.curricula"


class Curriculum:
    """A curriculum over `items`. Subclasses draw; those with a life override the state dicts."""

    def __init__(self, items: Sequence[Item]):
        self.items = list(items)
        if not self.items:
            raise UserError(f"curriculum {type(self).__name__}: there are no items to draw from; check the data")

    def draw(self, n: int, state: Mapping[str, Any]) -> list[Item]:
        """n items for the step and round in `state` ({"step": int, "seed": int, "round": int})."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""


def make_curriculum(spec: Any, items: Sequence[Item]) -> Any:
    """A curriculum over `items` from a name, a mapping or an object; a class is built with (items=..., its own arguments).

    Raises UserError for unknown names and arguments.
    """
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping):
        return spec
    fixed = "name" in spec and not isinstance(find(PACKAGE, spec["name"]), type)
    made = make(PACKAGE, spec if fixed else {**spec, "items": items})
    if not hasattr(made, "draw"):
        raise UserError(f"curriculum {spec.get('name')!r} cannot draw: it must be a class with `__init__(items, ...)` and `draw(n, state)`")
    return made
