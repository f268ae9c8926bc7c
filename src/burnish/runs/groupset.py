"""GroupSet: the parameter groups of a run, the rule that says which moves when, and named snapshots of all of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from burnish.runs import ranks, stateio
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.groups import ParamGroup

MAX_SKIPPED = 10
"""Moves in a row without a finite gradient after which the run is refused."""


class GroupSet:
    """groups: by name. rule: `rule(i) -> names` of the groups that the i-th move (from 0) moves; None moves all.

    moves: calls of `move` so far. Raises ValueError where a parameter is in two groups.
    """

    def __init__(self, groups: Mapping[str, ParamGroup], rule: Callable[[int], Collection[str]] | None = None):
        self.groups, self.rule = dict(groups), rule
        self.moves = 0
        self.skipped_in_row = 0
        self.snapshots: dict[str, Any] = {}
        owners: dict[int, str] = {}
        for name, group in self.groups.items():
            for p in group.params:
                if owners.setdefault(id(p), name) != name:
                    raise ValueError(f"a parameter is in two groups: {owners[id(p)]!r} and {name!r}")

    def move(self, names: Collection[str] | None = None) -> dict[str, float]:
        """Steps the groups the rule (or `names`) says, then forgets the gradients of all groups: a move sees its own loss only.

        Metrics carry TRL's names, with `/group` behind them where there are several groups (but the policy's).
        Raises UserError after MAX_SKIPPED moves in a row whose gradient was not finite.
        """
        chosen = set(names if names is not None else self.groups if self.rule is None else self.rule(self.moves))
        unknown = chosen - set(self.groups)
        if unknown:
            raise ValueError(f"there is no parameter group {min(unknown)!r}; {did_you_mean(min(unknown), self.groups)}")
        out: dict[str, float] = {}
        broken = False
        for name in (name for name in self.groups if name in chosen):
            for key, value in self.groups[name].move().items():
                out[key if len(self.groups) == 1 or name == "policy" else f"{key}/{name}"] = value
                broken |= key == "grad_norm" and not math.isfinite(value)
        for group in self.groups.values():
            group.zero_grad()
        self.moves += 1
        self.skipped_in_row = self.skipped_in_row + 1 if broken else 0
        if self.skipped_in_row >= MAX_SKIPPED:
            raise UserError(f"the gradient was not finite in {MAX_SKIPPED} moves in a row; lower the learning rate or check the loss")
        return out

    def snapshot(self, name: str) -> None:
        """Keeps the groups' whole state (weights, optimiser, schedule, average) under a name; part of every checkpoint from now on."""
        self.snapshots[name] = stateio.copy({key: group.state_dict() for key, group in self.groups.items()})

    def reset(self, name: str) -> None:
        """Sets the groups back to a snapshot and forgets gradients; the count of moves goes on."""
        if name not in self.snapshots:
            raise ValueError(f"there is no snapshot {name!r}; {did_you_mean(name, self.snapshots)}")
        state = stateio.copy(self.snapshots[name])  # an optimiser may keep the tensors it is given
        for key, group in self.groups.items():
            group.load_state_dict(state[key])
            group.zero_grad()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """All groups hold their moving averages inside the block."""
        with contextlib.ExitStack() as stack:
            for group in self.groups.values():
                stack.enter_context(group.averaged())
            yield

    def check_ranks(self, step: int) -> None:
        """Raises UserError on all ranks (`runs.ranks`) where their weights are not the same bits. step: for the message."""
        for name, group in self.groups.items():
            ranks.current().refuse_difference(group.named, f"after step {step} the weights of {name!r}")

    def state_dict(self) -> dict[str, Any]:
        """Groups, snapshots, counts, and gradients that wait for a later move (live tensors, not copies)."""
        return {
            "moves": self.moves,
            "skipped_in_row": self.skipped_in_row,
            "groups": {name: group.state_dict() for name, group in self.groups.items()},
            "grads": {name: {key: p.grad for key, p in group.named.items() if p.grad is not None} for name, group in self.groups.items()},
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`. Raises UserError where the groups are not those that were saved."""
        if set(state["groups"]) != set(self.groups):
            raise UserError(f"the checkpoint holds the groups {sorted(state['groups'])}, not {sorted(self.groups)}; use the same settings")
        for name, group in self.groups.items():
            group.load_state_dict(state["groups"][name])
            for key, p in group.named.items():
                grad = state["grads"][name].get(key)
                p.grad = None if grad is None else grad.to(p.device)
        self.snapshots = state["snapshots"]
        self.moves, self.skipped_in_row = state["moves"], state["skipped_in_row"]


def merge_moves(moved: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of a step's moves: the mean of each, but the last learning rate and the number of skipped moves."""
    out: dict[str, float] = {}
    for key in dict.fromkeys(key for row in moved for key in row):
        values = [row[key] for row in moved if key in row]
        if key.startswith("learning_rate"):
            out[key] = values[-1]
        else:
            out[key] = sum(values) if key.startswith("skipped_moves") else sum(values) / len(values)
    return out
