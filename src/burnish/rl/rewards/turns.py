"""Rewards inside a rollout: a number for each turn, at the turn's last token (`turns`), or for each token (`tokens`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Rollout, Score
from burnish.rl.rewards.errors import broke, function_name, load
from burnish.rl.rewards.truth import Truth, broken
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


class Turns:
    """`function(rollout, columns) -> numbers`, one for each turn of the rollout, or None where it says nothing of a turn.

    Each is laid on the turn's last loss token: `Score.token_rewards`, which credit adds to the reward at its place (a map such as
    `to_go` keeps the place; without one only their sum counts). The number of a turn without loss tokens (a frozen partner's, or only
    forced tokens) has no place and is left out. `Score.reward` is 0, the sum is `parts[name]`. With `texts=True` the function is
    called as `function(texts, columns)`, with what the policy wrote in each turn (forced tokens left out).
    truth: a verifier (a reward's or a task's name ...) whose verdict becomes `success`; None: not known.

    Raises UserError naming the item where the function raises, gives another count of numbers, or one that is not finite.
    """

    unit = "turn"

    def __init__(self, function: Callable[..., Any] | str, truth: Any = None, texts: bool = False, name: str | None = None):
        self.function = load(function)
        if not callable(self.function):
            raise UserError(f"reward {self.unit}s: {function!r} is not a function")
        self.truth, self.texts, self.name = Truth(truth), texts, name or function_name(self.function)
        self.decode: Callable[[list[int]], str] | None = None  # bound once there is a policy

    @property
    def needs(self) -> tuple[Any, ...]:
        """The verifier's."""
        return self.truth.needs

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order; one that broke is invalid."""
        scores = []
        for rollout, success in zip(group.rollouts, self.truth.successes(group, measured), strict=True):
            if broken(rollout):
                scores.append(Score(reward=0.0, invalid=True, extras={"reason": "the rollout ended in an error"}))
                continue
            values = self.place(rollout, self._numbers(rollout, group))
            scores.append(Score(reward=0.0, success=success, token_rewards=values, parts={self.name: float(values.sum())}))
        return scores

    def place(self, rollout: Rollout, numbers: Sequence[float]) -> np.ndarray:
        """float64 over the rollout's loss tokens. numbers: one for each turn."""
        sizes = [int(turn.loss_mask.sum()) for turn in rollout.turns]
        out = np.zeros(sum(sizes))
        for end, size, number in zip(np.cumsum(sizes), sizes, numbers, strict=True):
            if size:
                out[end - 1] = number
        return out

    def count(self, rollout: Rollout) -> int:
        """Numbers wanted."""
        return len(rollout.turns)

    def pieces(self, rollout: Rollout) -> list[list[int]]:
        """The policy's own token ids of each unit that gets a number."""
        return [[token for token, own in zip(turn.output_ids, turn.loss_mask) if own] for turn in rollout.turns]

    def _numbers(self, rollout: Rollout, group: Completions) -> list[float]:
        seen: Any = rollout
        if self.texts:
            if self.decode is None:
                raise UserError(f"reward {self.name!r} wants texts but has no tokenizer; use it in training, or set texts to False")
            seen = [self.decode(piece) for piece in self.pieces(rollout)]
        try:
            found = list(self.function(seen, group.item.columns))
            numbers = [0.0 if number is None else float(number) for number in found]
        except Exception as error:
            raise broke(self.name, group.item.id, error) from error
        wanted = self.count(rollout)
        if len(numbers) != wanted or not np.isfinite(numbers).all():
            got = f"{len(numbers)} numbers for {wanted} {self.unit}s" if len(numbers) != wanted else f"{found!r}, which is not finite"
            raise UserError(
                f"reward {self.name!r} gave {got} of item {group.item.id!r}, rollout {rollout.index}; return one finite number (or None) "
                f"for each {self.unit}"
            )
        return numbers


class Tokens(Turns):
    """`function(rollout, columns) -> numbers`, one for each loss token of the rollout, in order; otherwise as `turns`.

    With `texts=True` it is called with the text of each of these tokens.
    """

    unit = "token"

    def place(self, rollout: Rollout, numbers: Sequence[float]) -> np.ndarray:
        """As they are."""
        return np.asarray(numbers, dtype=np.float64)

    def count(self, rollout: Rollout) -> int:
        """Loss tokens."""
        return rollout.n_loss_tokens

    def pieces(self, rollout: Rollout) -> list[list[int]]:
        """Each loss token alone."""
        return [[token] for turn in super().pieces(rollout) for token in turn]


parts = {"turns": Turns, "tokens": Tokens}
