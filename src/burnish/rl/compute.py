"""What a run has computed so far: tokens written, and FLOPs of generation, measuring and training, counted from shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.hardware.flops import per_token
from burnish.records import Rollout
from burnish.rl.batch import Batch, without_replayed


class ComputeMeter:
    """An observer of the trainer and of the Measurer; its totals go into each row of metrics as `compute/*` and survive a resume.

    compute/tokens: tokens written by the policy. compute/flops: of generation (a prompt once for its group), of measuring passes and of
    training (forward and backward, the kept rollouts, every epoch). Evaluation is left out: it is no part of what a recipe costs.
    model: the policy's. trained: all that the loss moves (a critic, too).
    share_prefix: a group's prompt is computed once in training, too. epochs: passes over one batch.
    """

    def __init__(self, model: Any, share_prefix: bool = True, epochs: int = 1):
        self.model, self.share_prefix, self.epochs = model, share_prefix, epochs
        self.trained: Sequence[Any] = (model,)
        self.tokens = 0.0
        self.flops = 0.0
        self._rates: dict[int, tuple[float, float]] = {}

    def __call__(self, batch: Batch, metrics: dict[str, float]) -> None:
        """Counts one step's batch and writes the totals into its metrics."""
        drawn, trained = [], []
        for group, keep in zip(batch.groups, batch.keep, strict=True):
            kept = [rollout for rollout, flag in zip(group.rollouts, keep, strict=True) if flag]
            fresh = without_replayed(group).rollouts
            self.tokens += sum(len(turn.output_ids) for rollout in fresh for turn in rollout.turns)
            drawn += spans_of(fresh, share_prefix=True)
            trained += spans_of(kept, self.share_prefix)
        training = sum(self._forward(model, trained) for model in self.trained)
        self.flops += self._forward(self.model, drawn) + 3.0 * self.epochs * training
        metrics |= {"compute/tokens": self.tokens, "compute/flops": self.flops}

    def measured(self, model: Any, rollouts: Sequence[Rollout], share_prefix: bool) -> None:
        """Counts one measuring pass of a model (the policy's or another) over these rollouts."""
        by_item: dict[str, list[Rollout]] = {}
        for rollout in rollouts:
            by_item.setdefault(rollout.item_id, []).append(rollout)
        self.flops += self._forward(model, [span for members in by_item.values() for span in spans_of(members, share_prefix)])

    def _forward(self, model: Any, spans: Sequence[tuple[int, int]]) -> float:
        """`forward`, the model's modules walked once in a run."""
        if id(model) not in self._rates:
            self._rates[id(model)] = per_token(model)
        return _flops(self._rates[id(model)], spans)

    def state_dict(self) -> dict[str, Any]:
        """The totals."""
        return {"tokens": self.tokens, "flops": self.flops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.tokens, self.flops = float(state["tokens"]), float(state["flops"])


def forward(model: Any, spans: Sequence[tuple[int, int]]) -> float:
    """FLOPs of one forward pass over stretches [start, end) of positions, each token attending to all before it and to itself."""
    return _flops(per_token(model), spans)


def _flops(rates: tuple[float, float], spans: Sequence[tuple[int, int]]) -> float:
    token, key = rates
    keys = sum((end * (end + 1) - start * (start + 1)) / 2 for start, end in spans)
    return token * sum(end - start for start, end in spans) + key * keys


def spans_of(rollouts: Sequence[Rollout], share_prefix: bool) -> list[tuple[int, int]]:
    """What one item's rollouts ask to compute, turn by turn. A turn that extends the one before it goes on from there.

    share_prefix: a context that several turns begin with is computed once.
    """
    spans: list[tuple[int, int]] = []
    seen: set[tuple[int, ...]] = set()
    for rollout in rollouts:
        row: list[int] = []
        for turn in rollout.turns:
            context = list(turn.context_ids)
            start = len(row) if row and context[: len(row)] == row else 0
            if start == 0 and share_prefix and tuple(context) in seen:
                start = len(context)
            seen.add(tuple(context))
            row = context + list(turn.output_ids)
            spans.append((start, len(row)))
    return spans
