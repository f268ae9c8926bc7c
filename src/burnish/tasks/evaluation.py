"""Held-out evaluation: the same items, the same seeds and the same sampling for every model, with intervals clustered by prompt."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from burnish.records import Item, Rollout, Sampling, Turn
from burnish.runs.errors import UserError
from burnish.runs.seeds import seed_for
from burnish.tasks.completions import Completions, Reward, checked_scores
from burnish.tasks.eval_result import EvalResult, ItemResult, paired_difference

__all__ = ["EvalResult", "ItemResult", "evaluate", "paired_difference"]

BLOCK = 256
"""Prompts handed to the engine at once: bounds what is held before it is scored."""


class PolicyLike(Protocol):
    """What evaluation needs of a policy."""

    model: Any
    tokenizer: Any

    @property
    def eos_ids(self) -> Any:
        """Ids that end a completion."""

    def encode(self, prompt: Any, /, *args: Any, **template_args: Any) -> list[int]:
        """Text or messages -> token ids."""

    def decode(self, ids: Any, /) -> str:
        """Token ids -> text."""


def evaluate(
    policy: PolicyLike,
    items: Sequence[Item],
    reward: Reward,
    samples: int = 1,
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    max_new_tokens: int | None = None,
    engine: Any = None,
    name: str = "",
    template_args: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvalResult:
    """`samples` completions of every item, scored.

    A completion's seed depends on `seed`, the item's id and its place alone, so two models see the same draws and items may come in any
    order. sampling: default temperature 1. max_new_tokens: default each item's own limit. engine: an `inference.Engine` holding the
    policy's present weights; default: made here. template_args: for chat prompts. progress: called with (items done, items in all).
    Raises UserError for no items, an id twice, or a reward that returns anything but one Score for each completion.
    """
    from burnish.inference.engine import Engine

    _check(items, samples)
    sampling = sampling or Sampling()
    started = time.perf_counter()
    engine = Engine(policy.model, tokenizer=policy.tokenizer, eos_ids=tuple(policy.eos_ids)) if engine is None else engine
    results: dict[str, ItemResult] = {}
    for limit in sorted({max_new_tokens or item.limits.max_new_tokens for item in items}):
        chosen = [item for item in items if (max_new_tokens or item.limits.max_new_tokens) == limit]
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            turns = _generate(policy, engine, block, samples, sampling, seed, limit, template_args or {})
            for item, its_turns in zip(block, turns, strict=True):
                results[item.id] = score_item(policy, item, its_turns, reward)
            if progress is not None:
                progress(len(results), len(items))
    return EvalResult(
        items=[results[item.id] for item in items],
        samples=samples,
        sampling=sampling.to_dict(),
        seed=seed,
        name=name,
        engine_mode=str(getattr(engine, "mode", "")),
        seconds=time.perf_counter() - started,
    )


def score_item(policy: PolicyLike, item: Item, turns: Sequence[Turn], reward: Reward) -> ItemResult:
    """Scores the completions of one item; what the reward needs measured is measured with this policy."""
    rollouts = [Rollout(item_id=item.id, index=index, turns=[turn], stop=turn.stop) for index, turn in enumerate(turns)]  # type: ignore[arg-type]
    group = Completions(item, rollouts, [policy.decode(list(turn.output_ids)) for turn in turns])
    needs = tuple(getattr(reward, "needs", ()))
    measured = policy.score(rollouts, needs) if needs else {}  # type: ignore[attr-defined]
    scores = checked_scores(str(getattr(reward, "name", None) or "reward"), reward(group, measured), item.id, turns)
    return ItemResult(
        id=item.id,
        successes=[None if score.invalid or score.success is None else float(score.success) for score in scores],
        rewards=[None if score.invalid else float(score.reward) for score in scores],
        truncated=[rollout.truncated for rollout in rollouts],
        tokens=[len(turn.output_ids) for turn in turns],
        completions=group.texts,
        prompt=_shown(policy, item),
        parts=[{key: value if math.isfinite(value) else None for key, value in score.parts.items()} for score in scores],
    )


def _check(items: Sequence[Item], samples: int) -> None:
    if not items:
        raise UserError("evaluation got no items")
    if samples < 1:
        raise UserError(f"evaluation: samples is {samples}; it must be at least 1")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UserError(f"evaluation: the id {item.id!r} is there twice; every held-out problem is asked once: remove one")
        seen.add(item.id)


def _generate(
    policy: PolicyLike,
    engine: Any,
    items: Sequence[Item],
    samples: int,
    sampling: Sampling,
    seed: int,
    limit: int,
    template_args: dict[str, Any],
) -> list[list[Turn]]:
    """A list of turns for each item, in order."""
    from burnish.inference.generate import generate

    prompts = [_prompt_ids(policy, item, template_args) for item in items]
    seeds = [[seed_for("evaluation", seed, item.id, index) for index in range(samples)] for item in items]
    return generate(engine, prompts, sampling, n=samples, max_new_tokens=limit, seeds=seeds)


def _prompt_ids(policy: PolicyLike, item: Item, template_args: dict[str, Any]) -> list[int]:
    if item.is_chat:
        return list(policy.encode(list(item.prompt), tools=item.columns.get("tools"), **template_args))
    return [int(token) for token in item.prompt]  # type: ignore[arg-type]


def _shown(policy: PolicyLike, item: Item) -> str:
    """The prompt as text, for the reader of the result."""
    if item.is_chat:
        return "\n".join(f"{message.get('role')}: {message.get('content')}" for message in item.prompt)  # type: ignore[union-attr]
    return policy.decode(list(item.prompt))
