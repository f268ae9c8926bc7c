"""CreditBatch: what credit reads of a batch of rollouts. Advantages: what it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from burnish.records import Group, Rollout
from burnish.rl.credit.columns import read_columns
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class CreditBatch:
    """The scores of a batch beside its TokenTable (K loss tokens, N rollouts, P prompts); everything float64.

    table: segments; `table.kept` is False for dropped and invalid rollouts, which take no part in any statistic and get advantage 0.
    reward: [N]: the shaped reward of each rollout (NaN allowed where not kept).
    token_rewards: [K]: rewards at their own token, on top of `reward` (which sits on the rollout's last loss token); zeros where there are
        none. KL in the reward is subtracted here before credit runs. Group statistics and constant advantages read the return of a
        rollout, reward + sum of its token rewards; `to_go` reads each token reward at its place.
    success: [N]: raw correctness, NaN where unknown.
    group: int64 [N]: whose statistics a rollout shares: the pair (prompt, agent), so that roles of one episode are not mixed. Equal to
        `table.prompt` where each prompt has one agent.
    agent: name of each rollout's agent (moving baselines are kept by it).
    greedy: [P]: reward of the prompt's greedy completion, NaN where there is none.
    prompt_weight: [P].
    measured: flat tensors [K] by the key of their Need (entropies, values, reference log-probs ...); "sample_logp" is always there when
        made by `from_groups`.
    """

    table: TokenTable
    reward: Tensor
    token_rewards: Tensor
    success: Tensor
    group: Tensor
    agent: tuple[str, ...]
    greedy: Tensor
    prompt_weight: Tensor
    measured: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)

    @classmethod
    def make(
        cls,
        table: TokenTable,
        reward: Tensor,
        token_rewards: Tensor | None = None,
        success: Tensor | None = None,
        agent: Sequence[str] | None = None,
        greedy: Tensor | None = None,
        measured: Mapping[str, Tensor] | None = None,
    ) -> CreditBatch:
        """A batch from tensors, with defaults for what is left out."""
        agents = tuple(agent) if agent is not None else ("policy",) * table.n_sequences
        names = {name: number for number, name in enumerate(dict.fromkeys(agents))}
        pairs = table.prompt * max(len(names), 1) + torch.tensor([names[name] for name in agents], dtype=torch.int64)
        nan = torch.tensor(float("nan"), dtype=torch.float64)
        assert table.prompt_weight is not None
        return cls(
            table=table,
            reward=reward.double(),
            token_rewards=torch.zeros(table.n_tokens, dtype=torch.float64) if token_rewards is None else token_rewards.double(),
            success=nan.expand(table.n_sequences) if success is None else success.double(),
            group=torch.unique(pairs, return_inverse=True)[1],
            agent=agents,
            greedy=nan.expand(table.n_prompts) if greedy is None else greedy.double(),
            prompt_weight=table.prompt_weight,
            measured=dict(measured or {}),
        )

    @classmethod
    def from_groups(
        cls,
        groups: Sequence[Group],
        keep: Sequence[Sequence[bool]] | None = None,
        measured: Mapping[str, Tensor] | None = None,
        columns: Sequence[str] = (),
    ) -> CreditBatch:
        """All rollouts of all groups in order. keep: per group and rollout, from the filters (default all). columns: see `columns.py`.

        A rollout whose turns were all sampled at temperature 0 is its prompt's greedy completion (see `credit/baselines.py`).
        Raises UserError where token rewards do not fit the loss tokens, a kept reward is not finite, or a group's prompt weights differ.
        """
        table = TokenTable.from_groups(groups, keep)
        assert table.kept is not None
        pairs = [(group.item.id, rollout, score) for group in groups for rollout, score in zip(group.rollouts, group.scores, strict=True)]
        dense = []
        for (item, rollout, score), kept in zip(pairs, table.kept.tolist(), strict=True):
            n = rollout.n_loss_tokens
            values = np.zeros(n) if score.token_rewards is None else np.asarray(score.token_rewards, dtype=np.float64)
            if values.shape != (n,):
                raise UserError(f"item {item!r}, rollout {rollout.index}: {values.shape} token rewards for {n} loss tokens")
            if kept and not (np.isfinite(score.reward) and np.isfinite(values).all()):
                raise UserError(f"item {item!r}, rollout {rollout.index}: the reward is not finite; mark the score invalid instead")
            dense.append(values)
        greedy = torch.full((len(groups),), float("nan"), dtype=torch.float64)
        for number, group in enumerate(groups):
            for rollout, score in zip(group.rollouts, group.scores, strict=True):
                if rollout.turns and not score.invalid and all(turn.sampling.temperature == 0 for turn in rollout.turns):
                    greedy[number] = score.reward
        weights = torch.tensor([_prompt_weight(group) for group in groups], dtype=torch.float64)
        return cls.make(
            table.with_prompt_weight(weights),
            reward=torch.tensor([score.reward for _, _, score in pairs], dtype=torch.float64),
            token_rewards=torch.from_numpy(np.concatenate(dense)) if dense else None,
            success=torch.tensor([np.nan if s.success is None else float(s.success) for _, _, s in pairs], dtype=torch.float64),
            agent=[rollout.agent for _, rollout, _ in pairs],
            greedy=greedy,
            measured={
                "sample_logp": _sample_logp([rollout for _, rollout, _ in pairs]),
                **read_columns(groups, columns, table.kept.tolist()),
                **(measured or {}),
            },
        )

    @property
    def returns(self) -> Tensor:
        """[N]: reward + sum of token rewards."""
        return self.reward + self.table.sum(self.token_rewards)

    def with_measured(self, measured: Mapping[str, Tensor]) -> CreditBatch:
        """The same batch with these flat tensors added."""
        return dataclasses.replace(self, measured={**self.measured, **measured})


@dataclasses.dataclass(frozen=True)
class Advantages:
    """tokens: float64 [K], 0 on tokens of rollouts that were not kept. prompt_weight: float64 [P], for `TokenTable.with_prompt_weight`.

    value_target: float64 [K], what a critic should predict (A + V before any whitening), or None without a critic.
    """

    tokens: Tensor
    prompt_weight: Tensor
    value_target: Tensor | None = None

    @property
    def columns(self) -> dict[str, Tensor]:
        """What the loss reads of it, by key: "advantage", and "value_target" where there is a critic."""
        return {"advantage": self.tokens} | ({} if self.value_target is None else {"value_target": self.value_target})


def _prompt_weight(group: Group) -> float:
    weights = {float(score.prompt_weight) for score in group.scores if not score.invalid}
    if len(weights) > 1:
        raise UserError(f"item {group.item.id!r}: its scores carry different prompt weights {sorted(weights)}; a group has one")
    weight = weights.pop() if weights else 1.0
    if not (np.isfinite(weight) and weight >= 0):
        raise UserError(f"item {group.item.id!r}: prompt weight {weight}; it must be a finite number >= 0")
    return weight


def _sample_logp(rollouts: Sequence[Rollout]) -> Tensor:
    parts = [turn.logprobs[turn.loss_mask].astype(np.float64) for rollout in rollouts for turn in rollout.turns]
    return torch.from_numpy(np.concatenate(parts)) if parts else torch.zeros(0, dtype=torch.float64)
