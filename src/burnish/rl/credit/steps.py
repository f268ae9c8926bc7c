"""What the steps of a credit chain share: the draft they hand on, their base class, and sums inside groups and rollouts."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from burnish.models.needs import Need
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.objectives.formula import Formula
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Draft:
    """Credit on its way through the chain.

    terminal: float64 [N]: the reward of each rollout, less the baseline: it belongs to the rollout's last loss token.
    dense: float64 [K]: rewards at their own tokens. Both are 0 where a rollout is not kept.
    tokens: float64 [K] advantages once a map (or a whitening) has spread the credit over tokens, else None.
    memory: JSON values that outlive the batch (moving averages); steps may write to it.
    """

    batch: CreditBatch
    terminal: Tensor
    dense: Tensor
    memory: dict[str, Any]
    tokens: Tensor | None = None
    value_target: Tensor | None = None

    @classmethod
    def start(cls, batch: CreditBatch, memory: dict[str, Any]) -> Draft:
        """The raw rewards, selected: what is not kept is 0 whatever it holds."""
        table = batch.table
        assert table.kept is not None
        terminal = torch.where(table.kept, batch.reward, torch.zeros_like(batch.reward))
        dense = torch.where(table.kept_tokens, batch.token_rewards, torch.zeros_like(batch.token_rewards))
        return cls(batch, terminal, dense, memory)

    @property
    def kept(self) -> Tensor:
        """bool [N]."""
        assert self.batch.table.kept is not None
        return self.batch.table.kept

    @property
    def returns(self) -> Tensor:
        """float64 [N]: terminal + sum of dense."""
        return self.terminal + self.batch.table.sum(self.dense)

    def less(self, baseline: Tensor) -> Draft:
        """With `baseline` [N] subtracted from the kept rollouts."""
        shifted = torch.where(self.kept, self.terminal - baseline, torch.zeros_like(self.terminal))
        return dataclasses.replace(self, terminal=shifted)

    def times(self, factor: Tensor) -> Draft:
        """With every kept rollout's credit multiplied by `factor` [N]."""
        factor = torch.where(self.kept, factor, torch.zeros_like(factor))
        table = self.batch.table
        tokens = None if self.tokens is None else self.tokens * table.spread(factor)
        return dataclasses.replace(self, terminal=self.terminal * factor, dense=self.dense * table.spread(factor), tokens=tokens)

    def spread(self) -> Tensor:
        """float64 [K]: the tokens' advantages; without a map so far the rollout's credit, the same on all its tokens."""
        return self.batch.table.spread(self.returns) if self.tokens is None else self.tokens

    def group_sum(self, x: Tensor) -> Tensor:
        """[N] -> [N]: sums of kept rollouts over each rollout's group."""
        group = self.batch.group
        selected = torch.where(self.kept, x, torch.zeros_like(x))
        totals = torch.zeros(int(group.max()) + 1 if len(group) else 0, dtype=x.dtype).index_add(0, group, selected)
        return totals[group]

    def group_count(self) -> Tensor:
        """float64 [N]: kept rollouts of each rollout's group, at least 1."""
        return self.group_sum(torch.ones_like(self.terminal)).clamp(min=1)


class Step(Formula):
    """One step of a credit chain: a frozen config that is called with a Draft and returns the next one.

    kind: where it may stand. "baseline" comes first, once; "scale" acts on whole rollouts, before any map; "map" makes token values;
    "token_scale" acts on token values.
    formula: the text `describe()` prints, with the fields in braces. tex: the same in LaTeX, with the fields as <field>.
    group: True where it compares rollouts of a prompt; then it needs at least `least_group` of them.
    thinker: (attribute that the thinker must have, a thinker that has it), where it reads what only some thinkers bring.
    """

    kind: ClassVar[Literal["baseline", "scale", "map", "token_scale"]]
    group: ClassVar[bool] = False
    thinker: ClassVar[tuple[str, str] | None] = None

    @property
    def least_group(self) -> int:
        """Rollouts of a prompt without which it could say nothing."""
        return 2 if self.group else 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Token columns it reads, see `credit/columns.py`."""
        return ()

    def needs(self) -> tuple[Need, ...]:
        """What it reads from `CreditBatch.measured`."""
        return ()

    def __call__(self, draft: Draft) -> Draft:
        """The next draft."""
        raise NotImplementedError


def measured(draft: Draft, key: str, who: str) -> Tensor:
    """A measured tensor [K] as float64, 0 where not kept; UserError where it was not measured."""
    found = draft.batch.measured.get(key)
    if found is None:
        raise UserError(f"credit step {who!r} needs {key!r}, which was not measured")
    kept = draft.batch.table.kept_tokens
    return torch.where(kept, found.detach().to(kept.device).double(), torch.zeros((), dtype=torch.float64))


def to_go(table: TokenTable, x: Tensor, decay: float | Tensor) -> Tensor:
    """[K] -> [K]: y_t = x_t + decay * y_{t+1} inside each rollout (y = 0 after its last loss token). decay: a number or [N]."""
    rates = torch.as_tensor(decay, dtype=x.dtype).expand(table.n_sequences)
    from_end = table.from_end()
    order = torch.argsort(from_end, stable=True)
    running = torch.zeros(table.n_sequences, dtype=x.dtype)
    out = torch.zeros_like(x)
    for places in order.split(torch.bincount(from_end).tolist()) if len(x) else ():
        rollouts = table.sequence[places]
        running[rollouts] = x[places] + rates[rollouts] * running[rollouts]
        out[places] = running[rollouts]
    return out


def at_last_token(table: TokenTable, x: Tensor) -> Tensor:
    """[N] -> [K]: each rollout's value on its last loss token, 0 elsewhere (lost for a rollout without loss tokens)."""
    return torch.where(table.from_end() == 0, table.spread(x), torch.zeros((), dtype=x.dtype))
