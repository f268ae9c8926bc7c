"""Learner: credit -> move. It turns scored rollouts into optimiser steps and knows nothing of tasks, chats or sampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.models.needs import Need
from burnish.models.policy import Policy
from burnish.models.rows import flat
from burnish.records import Rollout
from burnish.rl.batch import Batch
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.measure import Measurer
from burnish.rl.micro import micro_batches, mini_batches, shares
from burnish.rl.movement import Before, moved, picked
from burnish.rl.objectives.objective import Objective
from burnish.rl.objectives.tokens import TokenTable
from burnish.rl.shared import measured_by_all
from burnish.runs import ranks
from burnish.runs.loop import Mover
from burnish.runs.resources import Timer

LOGP = Need(what="logp")
ENTROPY = Need(what="entropy")
GAP_LIMIT = 1e-4
"""The sampler's log-probs stand in for a measuring pass only while the last logged gap stays under this."""


@dataclasses.dataclass
class Learner:
    """objective: credit, ratio, surrogate, corrections, KL, weights. measurer: the models that needs may name.

    minibatches, epochs: optimiser steps per batch = minibatches x epochs. micro_tokens: tokens of one forward and backward pass;
    the cut never changes the gradient, since weights are fixed for the whole optimiser step first.
    trust_sampler: the sampler's log-probs may stand in for a measuring pass (those of the built-in engine only).
    The model runs in eval mode (no dropout), so that sampler and learner see the same distribution.
    Several ranks get the same batch; each takes a share of every optimiser step's rollouts, and gradients and metrics are joined before
    the mover moves: gradient and metrics are those of one process, to rounding.
    """

    policy: Policy
    objective: Objective
    measurer: Measurer
    minibatches: int = 1
    epochs: int = 1
    micro_tokens: int = 16384
    share_prefix: bool = True
    seed: int = 0
    trust_sampler: bool = True
    timer: Timer = dataclasses.field(default_factory=Timer)
    gap: float | None = None
    fresh: bool = True
    before: Before = dataclasses.field(default_factory=list)

    @property
    def trained(self) -> dict[str, Policy]:
        """The models that the loss moves: the policy, and those that the objective's needs with gradient name (a critic)."""
        return {"policy": self.policy} | {need.model: self.measurer.models[need.model] for need in self.objective.grad_needs()}

    @property
    def parts(self) -> dict[str, Any]:
        """What carries a state besides the learner itself: the objective (moving baselines, adaptive KL)."""
        return {"objective": self.objective}

    def update(self, batch: Batch, step: int, mover: Mover) -> dict[str, float]:
        """All optimiser steps of one batch. Returns metrics, averaged over the optimiser steps by their tokens."""
        rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
        self.before = []
        self.fresh = batch.version == step - 1  # else some tokens may stand on keys and values of older weights
        credit_batch = CreditBatch.from_groups(batch.groups, batch.keep, columns=self.objective.columns)
        table = credit_batch.table
        kept_flags = [bool(flag) for flag in table.kept] if table.kept is not None else [True] * table.n_sequences
        chosen = [n for n, (kept, size) in enumerate(zip(kept_flags, table.lengths.tolist())) if kept and size]
        one_step = self.minibatches * self.epochs == 1
        measured = self._measure(rollouts, chosen, table, step, one_step)
        with self.timer("credit"):
            flat_values = {key: value for key, value in measured.items() if isinstance(value, Tensor)}
            flat_values["sample_logp"] = flat(rollouts, "logprobs")
            advantages = self.objective.advantages(credit_batch.with_measured(flat_values))
            table = table.with_prompt_weight(advantages.prompt_weight)
        tokens = {**advantages.columns, **flat_values}
        groups = _by_prompt([n for n, kept in enumerate(kept_flags) if kept], table) if chosen else []
        collected: list[tuple[int, dict[str, float]]] = []
        for epoch in range(self.epochs):
            for part, members in enumerate(mini_batches(groups, self.minibatches, self.seed, step, epoch)):
                collected.append(self._optimiser_step(rollouts, members, table, tokens, step, first=epoch == 0 and part == 0))
                mover()
        if not collected:
            mover()  # nothing to learn from: the loop counts a move without gradient as skipped
        with self.timer("probe"):
            movement = moved(self.policy, self.before, step, self.share_prefix)
        counts = {"num_tokens_step": float(table.n_kept_tokens), "learner/updates": float(len(collected))}
        return _average(collected) | movement | counts

    def _measure(self, rollouts: Sequence[Rollout], chosen: Sequence[int], table: TokenTable, step: int, one_step: bool) -> dict[str, Any]:
        """What credit and objective need, of the kept rollouts only, laid out over all rollouts (zeros where not kept).

        Nothing asked for, nothing computed: with one optimiser step on a batch, the old log-prob is the learner's own, detached.
        """
        needs = list(self.objective.needs())
        measured: dict[str, Any] = {}
        if not one_step and LOGP not in needs:
            needs.append(LOGP)
        if LOGP in needs and self._sampler_will_do(rollouts, step):
            needs.remove(LOGP)
            measured[LOGP.key] = flat(rollouts, "logprobs")
        if not needs or not chosen:
            return measured
        with self.timer("measure"):
            found = measured_by_all(self.measurer, [rollouts[n] for n in chosen], table.prompt[chosen].tolist(), needs)
        _, places = table.pick(chosen)
        for key, value in found.items():
            if isinstance(value, Tensor):
                full = torch.zeros(table.n_tokens, dtype=value.dtype, device=value.device)
                full[places.to(value.device)] = value
                measured[key] = full
            else:
                entries = dict(zip(chosen, value))
                measured[key] = [entries.get(n) for n in range(len(rollouts))]
        return measured

    def _sampler_will_do(self, rollouts: Sequence[Rollout], step: int) -> bool:
        fresh = self.fresh and all(bool(np.all(turn.version == step - 1)) for rollout in rollouts for turn in rollout.turns if turn.train)
        close = self.gap is not None and self.gap < GAP_LIMIT and self.policy.dtype in (torch.float32, torch.float64)
        return self.trust_sampler and fresh and close

    def _optimiser_step(
        self,
        rollouts: Sequence[Rollout],
        members: Sequence[int],
        table: TokenTable,
        tokens: Mapping[str, Tensor],
        step: int,
        first: bool,
    ) -> tuple[int, dict[str, float]]:
        """Forward and backward over one optimiser step; the loss is a sum over micro-batches of sum(w * per_token)."""
        mine, places = table.pick(members)
        local = {key: value[places.to(value.device)] for key, value in tokens.items()}
        plan = self.objective.plan(mine, local)
        seen, logps = [], []
        for micro in self._micro_batches(rollouts, members, mine):
            part, index = mine.pick(micro)
            with self.timer("forward"):
                needs = [LOGP, *self.objective.grad_needs()]
                scored = self.measurer.differentiate([rollouts[members[n]] for n in micro], needs, self.share_prefix)
                mine_here = {key: value[index.to(value.device)] for key, value in local.items()}
                loss, metrics = self.objective.loss(part, scored, mine_here, plan, index)
            with self.timer("backward"):
                loss.backward()
            seen.append(metrics)
            logps.append((index, scored[LOGP.key].detach()))
        seen, logps = self._joined(seen, logps)
        out = self.objective.metrics(mine, seen, plan)
        if first:
            out |= self._gap(rollouts, members, logps, local["sample_logp"], step)
        return mine.n_tokens, out

    def _micro_batches(self, rollouts: Sequence[Rollout], members: Sequence[int], mine: TokenTable) -> list[list[int]]:
        """Places in the step of the rollouts of each pass. A rollout without loss tokens counts in the weights but needs no pass."""
        filled = [place for place, size in enumerate(mine.lengths.tolist()) if size]
        here = ranks.current()
        if here.world > 1:
            part = shares([rollouts[members[place]] for place in filled], mine.prompt[filled].tolist(), here.world)[here.rank]
            filled = [filled[place] for place in part]
        prompts = mine.prompt[filled].tolist()
        cut = micro_batches([rollouts[members[place]] for place in filled], prompts, self.micro_tokens)
        return [[filled[place] for place in part] for part in cut]

    def _joined(self, seen: list[Any], logps: list[Any]) -> tuple[list[Any], list[Any]]:
        """The passes of all ranks, in the same order on each; gradients are summed. One process: as given."""
        here = ranks.current()
        if here.world == 1:
            return seen, logps
        with self.timer("sum"):
            modules = [module for one in self.trained.values() for module in (one.model, one.value_head) if module is not None]
            here.sum_gradients(p for module in modules for p in module.parameters())
            passes = here.gather([seen, logps])
        return [one for rank in passes for one in rank[0]], [one for rank in passes for one in rank[1]]

    def _gap(
        self,
        rollouts: Sequence[Rollout],
        members: Sequence[int],
        logps: Sequence[tuple[Tensor, Tensor]],
        sampled: Tensor,
        step: int,
    ) -> dict[str, float]:
        """Sampler against trainer, over the tokens drawn under the weights of this moment.

        slope: of the trainer's log-probs on the sampler's, a line through 0: about the ratio of their temperatures where these differ.
        """
        own = torch.empty_like(sampled, dtype=torch.float64)
        for index, logp in logps:
            own[index] = logp.cpu().double()
        self.before = picked([rollouts[n] for n in members], own, step)
        versions = np.concatenate([turn.version[turn.loss_mask] for n in members for turn in rollouts[n].turns] or [np.zeros(0)])
        current = torch.from_numpy(versions == step - 1)
        if not self.fresh or not bool(current.any()):
            return {}
        own, sampled = own[current], sampled.double()[current]
        difference = (own - sampled).abs()
        self.gap = float(difference.max())
        name, square = "sampling/sampling_logp_difference", float(sampled.square().sum())
        slope = {f"{name}/slope": float((own * sampled).sum()) / square} if square > 0 else {}
        return {f"{name}/mean": float(difference.mean()), f"{name}/max": self.gap, **slope}

    def state_dict(self) -> dict[str, Any]:
        """The last gap, which decides whether the sampler's log-probs may stand in."""
        return {"gap": self.gap}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.gap = state["gap"]


def _by_prompt(chosen: Sequence[int], table: TokenTable) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for number in chosen:
        groups.setdefault(int(table.prompt[number]), []).append(number)
    return list(groups.values())


def _average(steps: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Means over optimiser steps, weighted by tokens; a metric that some steps lack is averaged over those that have it."""
    out = {}
    for key in dict.fromkeys(key for _, metrics in steps for key in metrics):
        rows = [(max(size, 1), metrics[key]) for size, metrics in steps if key in metrics]
        out[key] = sum(size * value for size, value in rows) / sum(size for size, _ in rows)
    return out
