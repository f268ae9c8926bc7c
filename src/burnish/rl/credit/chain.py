"""Chain: baseline >> scale >> token map, run once per batch over all loss tokens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from burnish.models.needs import Need, union
from burnish.rl.credit.batch import Advantages, CreditBatch
from burnish.rl.credit.steps import Draft
from burnish.rl.objectives.formula import name_of as step_name
from burnish.rl.objectives.formula import text_of
from burnish.runs.config import Config, build
from burnish.runs.errors import UserError
from burnish.runs.parts import make

PACKAGE = "burnish.rl.credit"


class Chain(Config):
    """steps: one baseline, then scales of whole rollouts, then maps and scales of tokens (see `credit/steps.py`).

    An orderless mixture is refused: a scale of whole rollouts after a map would undo or ignore what the map did.
    """

    steps: tuple[Any, ...]

    def model_post_init(self, context: Any) -> None:
        """Checks the order."""
        kinds = [getattr(step, "kind", None) for step in self.steps]
        names = " >> ".join(step_name(step) for step in self.steps)
        unknown = next((step for step, kind in zip(self.steps, kinds, strict=True) if kind not in _PLACE), None)
        if unknown is not None:
            raise UserError(f"credit: {step_name(unknown)!r} has no kind; a step says baseline, scale, map or token_scale")
        if kinds[:1] != ["baseline"] or kinds.count("baseline") != 1:
            raise UserError(f"credit: {names or 'an empty chain'} must begin with one baseline ('none' is one) and hold no other")
        places = [_PLACE[kind] for kind in kinds if kind is not None]
        if places != sorted(places):
            raise UserError(f"credit: in {names} a scale of whole rollouts comes after a token map, which it would cancel; put it before")
        if step_name(self.steps[0]) == "critic" and "scale" in kinds:
            raise UserError(f"credit: in {names} a scale of whole rollouts follows a critic, whose credit is by token; use batch_whiten")
        if step_name(self.steps[0]) == "critic" and any(step_name(step) == "to_go" for step in self.steps):
            raise UserError(f"credit: in {names} to_go would overwrite the critic's credit; leave one of them out")

    def __call__(self, batch: CreditBatch, memory: dict[str, Any] | None = None) -> Advantages:
        """Advantages of all loss tokens. memory: a dict that outlives the batch (moving averages are read and written there)."""
        draft = Draft.start(batch, {} if memory is None else memory)
        for step in self.steps:
            draft = step(draft)
        tokens = draft.spread()
        tokens = torch.where(batch.table.kept_tokens, tokens, torch.zeros_like(tokens))
        return Advantages(tokens, batch.prompt_weight, draft.value_target)

    def __rshift__(self, step: Any) -> Chain:
        """The chain with one more step (an object, a name or a mapping)."""
        return build(Chain, {"steps": (*self.steps, _step(step))})

    @property
    def group(self) -> bool:
        """True where a step compares the rollouts of a prompt and so needs at least two."""
        return any(getattr(step, "group", False) for step in self.steps)

    @property
    def least_group(self) -> int:
        """Rollouts of a prompt that the steps need to say anything."""
        return max([getattr(step, "least_group", 2 if getattr(step, "group", False) else 1) for step in self.steps], default=1)

    @property
    def columns(self) -> tuple[str, ...]:
        """Token columns that the steps read, see `credit/columns.py`."""
        return tuple(dict.fromkeys(name for step in self.steps for name in getattr(step, "columns", ())))

    @property
    def losses(self) -> tuple[Any, ...]:
        """Steps that have something to learn themselves (a critic): `token_loss(table, scored, tokens) -> (loss [k], metrics)`."""
        return tuple(step for step in self.steps if hasattr(step, "token_loss"))

    def needs(self) -> tuple[Need, ...]:
        """What the steps read from `CreditBatch.measured`."""
        return union(*(step.needs() for step in self.steps if hasattr(step, "needs")))

    def grad_needs(self) -> tuple[Need, ...]:
        """What the steps' own losses want with gradient."""
        return union(*(step.grad_needs() for step in self.steps if hasattr(step, "grad_needs")))

    def describe(self) -> str:
        """The steps' formulas in order."""
        return "; ".join(text_of(step) for step in self.steps)

    def latex(self) -> list[str]:
        """The steps' formulas in LaTeX, in order."""
        return [text_of(step, latex=True) for step in self.steps]


NO_SCALE = ("none", {"name": "none"})
_PLACE = {"baseline": 0, "scale": 1, "map": 2, "token_scale": 2}


def make_chain(spec: Any) -> Chain:
    """A chain from a Chain, one step, a list of steps, `{"steps": [...]}` or a text such as "group_mean >> group_std".

    A step is a name, a mapping with its fields, or an object; "none" after the baseline is the scale that changes nothing.
    Raises UserError.
    """
    if isinstance(spec, Chain):
        return spec
    if isinstance(spec, str) and ">>" in spec:
        spec = [word.strip() for word in spec.split(">>")]
    if isinstance(spec, Mapping) and set(spec) == {"steps"}:
        spec = spec["steps"]
    first, *rest = spec if isinstance(spec, (list, tuple)) and spec else [spec]
    return build(Chain, {"steps": tuple(_step(step) for step in (first, *(step for step in rest if step not in NO_SCALE)))})


def _step(spec: Any) -> Any:
    made = make(PACKAGE, spec)
    return made() if inspect.isclass(made) else made
