"""ParamGroup: parameters that move together: their optimiser, schedule, average and clipping, with a state that restores every bit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from burnish.runs.errors import UserError

Schedule = Callable[[int], float]


class ParamGroup:
    """Parameters with one optimiser.

    params: a module (its parameters that need a gradient; its persistent buffers are kept too) or parameters, plain or named.
    optimizer: over exactly these parameters.
    schedule: `schedule(k) -> factor` of the optimiser's learning rates at the group's k-th move (from 0); or a torch LRScheduler, which is
        stepped after each move.
    average: decay of an exponential moving average of the parameters (kept in float32 for half precision), or None.
    max_grad_norm: the gradient's total norm is clipped to it.
    Raises ValueError where optimiser and parameters do not match.
    """

    def __init__(
        self,
        params: nn.Module | Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]],
        optimizer: Optimizer,
        schedule: Schedule | LRScheduler | None = None,
        average: float | None = None,
        max_grad_norm: float | None = None,
    ):
        self.module = params if isinstance(params, nn.Module) else None
        self.named = _named(params)
        self.optimizer = optimizer
        self.schedule = schedule
        self.decay = average
        self.max_grad_norm = max_grad_norm
        self.moves = 0
        self.order = self._optimizer_order()
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.averages: dict[str, Tensor] | None = None
        if average is not None:
            if not 0 <= average < 1:
                raise ValueError(f"average is {average}; the decay must lie in [0, 1)")
            self.averages = {name: _wide(p.detach()).clone() for name, p in self.named.items()}

    def _optimizer_order(self) -> list[str]:
        """The names of the parameters in the order in which the optimiser numbers them."""
        names = {id(p): name for name, p in self.named.items()}
        order = [names.pop(id(p), None) for group in self.optimizer.param_groups for p in group["params"]]
        if None in order:
            raise ValueError(f"the optimiser has {order.count(None)} parameters that are not in its group (or holds one twice)")
        if names:
            raise ValueError(f"the optimiser lacks {len(names)} parameters of its group: {', '.join(list(names.values())[:3])} ...")
        return [str(name) for name in order]

    @property
    def params(self) -> list[nn.Parameter]:
        """The parameters, in the group's order."""
        return list(self.named.values())

    def move(self) -> dict[str, float]:
        """One optimiser step with the gradients that are there: {"grad_norm": before clipping, "learning_rate": of the first torch group}.

        A gradient that is not finite, or no gradient at all, moves nothing: the result then holds "skipped_moves": 1.
        """
        grads = [p.grad for p in self.params if p.grad is not None]
        norm = nn.utils.get_total_norm(grads) if grads else torch.tensor(0.0)
        if not grads or not torch.isfinite(norm):
            return {"grad_norm": float(norm), "learning_rate": self._set_rates(), "skipped_moves": 1.0}
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self.params, self.max_grad_norm, norm)
        rate = self._set_rates()
        self.optimizer.step()
        self.moves += 1
        if isinstance(self.schedule, LRScheduler):
            self.schedule.step()
        if self.averages is not None:
            for name, p in self.named.items():
                self.averages[name].lerp_(p.detach().to(self.averages[name].dtype), 1 - float(self.decay or 0.0))
        return {"grad_norm": float(norm), "learning_rate": rate}

    def _set_rates(self) -> float:
        if self.schedule is not None and not isinstance(self.schedule, LRScheduler):
            factor = float(self.schedule(self.moves))
            if not math.isfinite(factor):
                raise ValueError(f"the schedule gives {factor} at move {self.moves}")
            for group, base in zip(self.optimizer.param_groups, self._base_rates):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(base * factor)
                else:
                    group["lr"] = base * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters of the group."""
        for p in self.params:
            p.grad = None

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their moving averages inside the block (for evaluation or saving); does nothing where there is no average."""
        if self.averages is None:
            yield
            return
        kept = [p.detach().clone() for p in self.params]
        _copy_into(self.named, self.averages)
        try:
            yield
        finally:
            _copy_into(self.named, dict(zip(self.named, kept)))

    def _buffers(self) -> dict[str, Tensor]:
        if self.module is None:
            return {}
        items = self.module.state_dict(keep_vars=True).items()
        return {name: value for name, value in items if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)}

    def state_dict(self) -> dict[str, Any]:
        """Weights, buffers, optimiser, schedule, average and count of moves (live tensors, not copies)."""
        return {
            "order": self.order,
            "weights": {name: p.detach() for name, p in self.named.items()},
            "buffers": self._buffers(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if isinstance(self.schedule, LRScheduler) else None,
            "averages": self.averages,
            "moves": self.moves,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores in place (tied and shared tensors stay so). Raises UserError where the parameters are not those that were saved."""
        if state["order"] != self.order or _forms(state["weights"]) != _forms(self.named):
            raise UserError("the checkpoint was made with other parameters (names, shapes, dtypes or order differ); use the same model")
        scheduled = isinstance(self.schedule, LRScheduler)
        if (state["averages"] is None) != (self.averages is None) or (state["schedule"] is not None) != scheduled:
            raise UserError("the checkpoint was made with another average or schedule; use the same settings")
        _copy_into(self.named, state["weights"])
        _copy_into(self._buffers(), state["buffers"])
        _load_optimizer(self.optimizer, state["optimizer"])
        if isinstance(self.schedule, LRScheduler):
            self.schedule.load_state_dict(state["schedule"])
        if self.averages is not None:
            _copy_into(self.averages, state["averages"])
        self.moves = int(state["moves"])


def _named(params: Any) -> dict[str, nn.Parameter]:
    if isinstance(params, nn.Module):
        return {name: p for name, p in params.named_parameters() if p.requires_grad}
    out: dict[str, nn.Parameter] = {}
    for place, item in enumerate(params):
        name, p = item if isinstance(item, tuple) else (str(place), item)
        if name in out:
            raise ValueError(f"two parameters are named {name!r}")
        out[name] = p
    return out


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


@torch.no_grad()
def _copy_into(targets: Any, values: dict[str, Tensor]) -> None:
    for name, target in targets.items():
        target.copy_(values[name])


def _load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict`, but no state changes its dtype: torch casts state to the parameter's, which loses bits where they differ."""
    optimizer.load_state_dict(state)
    numbered = [p for group in optimizer.param_groups for p in group["params"]]
    for number, saved in state["state"].items():
        live = optimizer.state[numbered[number]]
        for key, value in saved.items():
            if isinstance(value, Tensor):
                live[key] = value.clone().to(live[key].device)
