"""What TRL's GRPO trainer logs about a batch, under its names and with its meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from burnish.rl.batch import Batch
from burnish.tasks.eval_result import EvalResult


def batch_metrics(batch: Batch) -> dict[str, float]:
    """reward, reward_std (over the whole batch, N-1), frac_reward_zero_std (over completions), rewards/<function>/mean and std,
    completions/*, tokens (of prompts and completions: what `num_tokens` counts).
    """
    pairs = [(rollout, score) for group in batch.groups for rollout, score in zip(group.rollouts, group.scores, strict=True)]
    groups = [[score.reward for score in group.scores if not score.invalid] for group in batch.groups for _ in group.scores]
    lengths = [sum(len(turn.output_ids) for turn in rollout.turns) for rollout, _ in pairs]
    found = _figures(
        [score.reward for _, score in pairs if not score.invalid],
        groups,
        lengths,
        [rollout.truncated for rollout, _ in pairs],
        [score.parts for _, score in pairs],
    )
    prompts = sum(len(rollout.turns[0].context_ids) for rollout, _ in pairs if rollout.turns)
    return found | {"tokens": float(sum(lengths) + prompts)}


def eval_metrics(result: EvalResult) -> dict[str, float]:
    """The same of a held-out evaluation, each name with eval/ before it."""
    groups = [[reward for reward in item.rewards if reward is not None] for item in result.items for _ in item.rewards]
    found = _figures(
        [reward for item in result.items for reward in item.rewards if reward is not None],
        groups,
        [size for item in result.items for size in item.tokens],
        [cut for item in result.items for cut in item.truncated],
        [{key: value for key, value in parts.items() if value is not None} for item in result.items for parts in item.parts],
    )
    return {f"eval/{name}": value for name, value in found.items()}


def _figures(
    rewards: Sequence[float],
    groups: Sequence[Sequence[float]],
    lengths: Sequence[int],
    truncated: Sequence[bool],
    parts: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    """groups: the valid rewards of each completion's group. The others: one entry for each completion (rewards: each valid one)."""
    ended = [size for size, cut in zip(lengths, truncated, strict=True) if not cut] or [0]
    out = {
        "reward": float(np.mean(rewards)) if rewards else 0.0,
        "reward_std": std(rewards),
        "frac_reward_zero_std": float(np.mean([std(group) < 1e-8 for group in groups])),
        "completions/mean_length": float(np.mean(lengths)),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": float(np.mean(truncated)),
        "completions/mean_terminated_length": float(np.mean(ended)),
        "completions/min_terminated_length": float(min(ended)),
        "completions/max_terminated_length": float(max(ended)),
    }
    for name in sorted({name for own in parts for name in own}):
        values = [own[name] for own in parts if name in own]
        out |= {f"rewards/{name}/mean": float(np.mean(values)), f"rewards/{name}/std": std(values)}
    return out


def std(values: Sequence[float]) -> float:
    """With N-1; 0 for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
