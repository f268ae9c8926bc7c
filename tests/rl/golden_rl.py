"""Golden arrays of the RL catalogue (computed with verl, TRL, OpenRLHF and prime-rl), and the way from padded to flat tensors."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from burnish.rl.credit.batch import Advantages, CreditBatch
from burnish.rl.objectives.tokens import TokenTable

FOLDER = Path(__file__).parent / "golden"


@functools.lru_cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as data:
        return {key: data[key] for key in data.files}


def tensor(file: str, name: str) -> torch.Tensor:
    return torch.from_numpy(load(file)[name].copy())


class Flat:
    """The golden batch under one mask, flat."""

    def __init__(self, mask: np.ndarray | None = None, prompt: np.ndarray | None = None, kept: list[bool] | None = None, gap: bool = False):
        batch = load("batch")
        self.mask = torch.from_numpy(batch["mask_gap" if gap else "mask"] if mask is None else mask).bool()
        self.table = TokenTable.from_lengths(self.mask.sum(1), torch.from_numpy(batch["prompt"] if prompt is None else prompt), kept=kept)

    def tokens(self, padded: np.ndarray | torch.Tensor) -> torch.Tensor:
        """[N, T] -> [K], or [N] -> [K]."""
        value = torch.as_tensor(np.array(padded), dtype=torch.float64)
        return self.table.spread(value) if value.dim() == 1 else value[self.mask]

    def padded(self, flat: torch.Tensor) -> torch.Tensor:
        """[K] -> [N, T] with zeros."""
        return torch.zeros(self.mask.shape, dtype=flat.dtype).masked_scatter(self.mask, flat)

    def batch(self, reward: np.ndarray, **more) -> CreditBatch:
        return CreditBatch.make(self.table, torch.as_tensor(np.array(reward)), **more)

    def rows(self, advantages: Advantages) -> torch.Tensor:
        """[N]: the one value of each row; fails where it is not constant."""
        first = torch.stack([row[row_mask][0] for row, row_mask in zip(self.padded(advantages.tokens), self.mask)])
        assert torch.equal(self.table.spread(first), advantages.tokens)
        return first


def with_masked(table: TokenTable):
    """(the table with a dropped rollout of three tokens at its end, a function [K] -> [K + 3] that puts NaN into every dropped slot)."""
    kept = [*table.kept.tolist(), False]
    longer = TokenTable.from_lengths(
        [*table.lengths.tolist(), 3], [*table.prompt.tolist(), 0], table.n_prompts, kept=kept, prompt_weight=table.prompt_weight.tolist()
    )

    def full(value: torch.Tensor) -> torch.Tensor:
        return torch.cat([value, value.new_zeros(3)]).masked_fill(~longer.kept_tokens, torch.nan)

    return longer, full


def run(objective, flat: Flat, logp, start, advantage, sampler=None, reference=None, current=None, cut=None, critic=None):
    """(loss, padded gradient with respect to logp, metrics) of one optimiser step. cut: lists of rollouts (default: one slice of all).

    critic: (values at the start, target), flat; the values are taken as unmoved.
    Masked slots hold NaN: those of dropped rollouts, and of one more dropped rollout that every case is given.
    """
    table, full = with_masked(flat.table)
    values = full(flat.tokens(logp)).requires_grad_()
    tokens = {"advantage": flat.tokens(advantage), "policy.logp": flat.tokens(start)}
    tokens["sample_logp"] = tokens["policy.logp"] if sampler is None else flat.tokens(sampler)
    if reference is not None:
        tokens["reference.logp"] = flat.tokens(reference)
    if current is not None:
        tokens["current.logp"] = flat.tokens(current)
    if critic is not None:
        tokens |= {"critic.value": critic[0], "value_target": critic[1]}
    tokens = {key: full(value) for key, value in tokens.items()}
    plan = objective.plan(table, tokens)
    total, seen = 0.0, []
    for rollouts in [*cut, [flat.table.n_sequences]] if cut else [range(table.n_sequences)]:
        part, index = table.pick(list(rollouts))
        local = {key: value[index] for key, value in tokens.items()}
        scored = {"policy.logp": values[index]} | ({} if critic is None else {"critic.value": tokens["critic.value"][index]})
        loss, found = objective.loss(part, scored, local, plan, index)
        loss.backward()
        total += float(loss.detach())
        seen.append(found)
    assert bool((values.grad[~table.kept_tokens] == 0).all())
    return total, flat.padded(values.grad[: flat.table.n_tokens]), objective.metrics(table, seen, plan)
