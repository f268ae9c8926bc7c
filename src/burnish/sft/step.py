"""The loss of one optimiser step and its gradient, forward pass by forward pass.

The weight of every token is 1 / (loss tokens of the whole step), fixed before the step is cut: any cut gives the same gradient.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.data.examples import Example
from burnish.models.forward import hidden_at_targets
from burnish.models.logprobs import token_values
from burnish.models.rows import Row
from burnish.runs import ranks
from burnish.sft.batches import shares, slices


@dataclasses.dataclass
class Sums:
    """Sums over loss tokens: nll and entropy in nats, correct (the most likely token was the right one), and the number of tokens.

    tokens counts loss tokens, seen all tokens that went through the model.
    """

    nll: float = 0.0
    entropy: float = 0.0
    correct: float = 0.0
    tokens: int = 0
    seen: int = 0

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """TRL's names: loss, mean_token_accuracy and entropy, each a mean over loss tokens."""
        n = max(1, self.tokens)
        return {f"{prefix}loss": self.nll / n, f"{prefix}mean_token_accuracy": self.correct / n, f"{prefix}entropy": self.entropy / n}


class Stepper:
    """Losses and gradients of examples under a policy, without dropout (as `models.forward` runs every model).

    packing: True lays the examples of a forward pass end to end (a beginning that several share is computed once) where that costs less
    than padded batches and the model can do it; "always": wherever it can; False: padded batches.
    """

    def __init__(self, policy: Any, micro_tokens: int = 8192, packing: bool | str = True, bf16: bool = False, chunk: int = 1024) -> None:
        self.model, self.head = policy.model, policy.head
        self.device = next(self.model.parameters()).device
        self.micro_tokens, self.packing, self.bf16, self.chunk = micro_tokens, packing, bf16, chunk

    def gradient(self, examples: Sequence[Example]) -> Sums:
        """Adds the gradient of the mean nll over all loss tokens of `examples` to the parameters' `.grad`.

        Several ranks get the same examples; each takes a share of them, and gradients and sums are added up.
        """
        total = sum(example.n_loss_tokens for example in examples)
        here = ranks.current()
        mine = examples
        if here.world > 1:
            mine = [examples[place] for place in shares([len(example.ids) for example in examples], here.world)[here.rank]]
        found = []
        for part in self._cut(mine):
            values, sums = self._values(part, grad=True)
            (-values["logp"].sum() / total).backward()
            found.append(sums)
        here.sum_gradients(self.model.parameters())
        return self._added([one for rank in here.gather(found) for one in rank], examples)

    def measure(self, examples: Sequence[Example]) -> Sums:
        """The same sums without gradient."""
        with torch.no_grad():
            return self._added([self._values(part, grad=False)[1] for part in self._cut(examples)], examples)

    def mean_logp(self, examples: Sequence[Example]) -> float:
        """Mean log-prob of the loss tokens, without gradient."""
        found = self.measure(examples)
        return -found.nll / max(1, found.tokens)

    def _cut(self, examples: Sequence[Example]) -> Iterable[list[Example]]:
        lengths = [len(example.ids) for example in examples]
        for part in slices(range(len(examples)), lengths, self.micro_tokens):
            yield [examples[index] for index in part]

    def _values(self, part: Sequence[Example], grad: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Per-token values of one forward pass, and their sums [3] (detached, float64)."""
        rows = [Row(np.asarray(example.ids, dtype=np.int64), np.flatnonzero(example.mask)) for example in part]
        targets = np.concatenate([row.ids[row.targets] for row in rows])
        ids = torch.from_numpy(targets).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext():
            hidden = hidden_at_targets(self.model, rows, share_prefix=self.packing)
        values = token_values(self.head, hidden, ids, ("logp", "entropy"), {"correct": _correct}, chunk=self.chunk, grad=grad)
        home = torch.device("cpu") if self.device.type == "mps" else self.device  # mps knows no float64
        sums = torch.stack([values[name].detach().to(home).double().sum() for name in ("logp", "entropy", "correct")])
        return values, sums

    def _added(self, found: Sequence[Tensor], examples: Sequence[Example]) -> Sums:
        total = torch.stack(list(found)).sum(0).tolist()  # one transfer a step, not one a pass
        tokens, seen = sum(one.n_loss_tokens for one in examples), sum(len(one.ids) for one in examples)
        return Sums(-total[0], total[1], total[2], tokens, seen)


def _correct(logits: Tensor, ids: Tensor, extras: Any) -> Tensor:
    """1 where the most likely token is the right one. A count: it has no gradient."""
    return (logits.argmax(-1) == ids).to(logits.dtype)
