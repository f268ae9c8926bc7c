"""The model's weights as the engine sees them: loading, noticing changes, and which ids end a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from burnish.runs.errors import UserError


def load(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Copy `state` into the model in place. Tied weights may be left out. Raises UserError naming the first wrong entry."""
    own = model.state_dict()
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise UserError(f"load_weights: {type(model).__name__} has no weight {unknown[0]!r}")
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise UserError(f"load_weights: {name} has shape {tuple(value.shape)}; the model's is {tuple(own[name].shape)}")
    given = {own[name].data_ptr() for name in state}
    missing = sorted(name for name, value in own.items() if name not in state and value.data_ptr() not in given)
    if missing:
        raise UserError(f"load_weights: the state lacks {missing[0]!r}")
    with torch.no_grad():
        for name, value in state.items():
            own[name].copy_(value)


def fingerprint(parameters: Sequence[torch.nn.Parameter]) -> int:
    """Changes when one of these is written in place by an optimiser step or `copy_`, or given other storage (not through `.data`)."""
    return hash(tuple([(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]))


def eos_ids_of(model: Any) -> frozenset[int]:
    """The end-of-sequence ids of a model: its generation config's, or its config's."""
    for owner in (getattr(model, "generation_config", None), getattr(model, "config", None)):
        value = getattr(owner, "eos_token_id", None)
        if value is not None:
            return frozenset(value if isinstance(value, (list, tuple)) else [value])
    return frozenset()
