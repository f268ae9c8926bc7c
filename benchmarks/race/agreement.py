"""Before any clock runs: on one frozen batch of completions the first step's loss and gradient of both sides must agree."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from benchmarks.race import burnish_side, setup, trl_side
from transformers import TrainerCallback

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models.policy import Policy
from burnish.records import Rollout, Sampling, Turn
from burnish.rl.batch import Batch
from burnish.rl.scoring import score_groups

TOLERANCE = 1e-5
LEAST_LOSS = 1e-3


class Disagreement(RuntimeError):
    """The two sides do not compute the same first step: their times would compare different work."""


def check(case: setup.Case, flags: trl_side.Flags, tolerance: float = TOLERANCE, **changes: Any) -> dict[str, float]:
    """{"loss_burnish", "loss_trl", "loss_difference", "gradient_difference", ...} of the first step on one frozen batch.

    loss_difference: absolute. gradient_difference: |a - b| / |b| over all parameters together. gradient_worst_element: the largest
    max |a - b| of a parameter, over the largest |b| there is. gradient_worst_parameter: the largest |a - b| / |b| of one parameter
    (for information: where a parameter's gradient nearly cancels, float32 leaves fewer digits of it).
    changes: TRL settings to change (a test plants a disagreement with them). Raises Disagreement above `tolerance`.
    """
    model, tokenizer = setup.make_model(case)
    texts = setup.prompts()[: case.prompts]
    rollouts = freeze(case, Policy(model, tokenizer), texts)
    loss_b, grads_b = of_burnish(case, rollouts)
    loss_t, grads_t = of_trl(case, flags, texts, rollouts, changes)
    if set(grads_b) != set(grads_t):
        raise Disagreement(f"gradients of different parameters: {sorted(set(grads_b) ^ set(grads_t))[:3]}")
    apart = {name: grads_b[name] - grads_t[name] for name in grads_t}
    norm = _norm(grads_t)
    found = {
        "loss_burnish": loss_b,
        "loss_trl": loss_t,
        "loss_difference": abs(loss_b - loss_t),
        "gradient_norm": norm,
        "gradient_difference": _norm(apart) / norm,
        "gradient_worst_element": _largest(apart) / _largest(grads_t),
        "gradient_worst_parameter": max(float(apart[name].norm() / grads_t[name].norm().clamp(min=1e-12)) for name in grads_t),
    }
    judged = ("loss_difference", "gradient_difference", "gradient_worst_element")
    if abs(loss_b) < LEAST_LOSS:
        raise Disagreement(f"the loss of the frozen batch of {case.name!r} is {loss_b}: that two such losses agree says nothing")
    if not (all(found[name] <= tolerance for name in judged) and norm > 0):
        raise Disagreement(f"burnish and TRL do not agree on the first step of {case.name!r} to {tolerance}: {found}")
    return found


def freeze(case: setup.Case, policy: Policy, texts: list[str]) -> list[list[Rollout]]:
    """case.group completions of each text, drawn once.

    Where all would have the same length they are cut to different ones: with equal lengths the advantages of a group cancel in the loss
    of the first step, and a loss of zero would agree with anything.
    """
    engine = Engine(policy.model, policy.tokenizer, policy.eos_ids)
    turns = generate(engine, [policy.encode(text) for text in texts], Sampling(), n=case.group, max_new_tokens=case.cap, seeds=5)
    if case.mean is None:
        turns = [[_cut(turn, -(-len(turn.output_ids) * (index + 1) // case.group)) for index, turn in enumerate(group)] for group in turns]
    return [[Rollout(str(p), index, [turn], turn.stop) for index, turn in enumerate(group)] for p, group in enumerate(turns)]


def _cut(turn: Turn, length: int) -> Turn:
    """The first tokens of a turn that ran into its limit."""
    return Turn(turn.context_ids, turn.output_ids[:length], turn.logprobs[:length], stop=turn.stop)


def of_burnish(case: setup.Case, rollouts: list[list[Rollout]]) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradient by parameter name) of burnish's learner."""
    model, tokenizer = setup.make_model(case)
    policy = Policy(model, tokenizer)
    with tempfile.TemporaryDirectory() as parent:
        trainer = burnish_side.make_trainer(case, policy, 1, f"{parent}/run")
        source, learner = trainer.queue.source, trainer.learner
        drawn = list(zip(burnish_side.items(case, policy), rollouts))
        batch = Batch(1, 0, score_groups(drawn, source.reward, [], policy, source.measurer))
        losses: list[float] = []
        compute = learner.objective.loss

        def seen(*args: Any, **kwargs: Any) -> Any:
            loss, metrics = compute(*args, **kwargs)
            losses.append(float(loss.detach()))
            return loss, metrics

        object.__setattr__(learner.objective, "loss", seen)
        learner.update(batch, 1, dict)
    return sum(losses), _grads(model)


def of_trl(
    case: setup.Case, flags: trl_side.Flags, texts: list[str], rollouts: list[list[Rollout]], changes: dict[str, Any]
) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradient by parameter name) of TRL's trainer, whose generation is replaced by the frozen completions."""
    model, tokenizer = setup.make_model(case)
    found: dict[str, torch.Tensor] = {}

    class Catch(TrainerCallback):
        def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            found.update(_grads(model))

    by_text = {text: iter(group) for text, group in zip(texts, rollouts)}
    with tempfile.TemporaryDirectory() as folder:
        args = trl_side.config(case, flags, 1, folder, max_grad_norm=0.0, **changes)  # 0: no clipping
        trainer = trl_side.make_trainer(case, flags, model, tokenizer, args)
        trainer.train_dataset = trainer.train_dataset.select(range(case.prompts))
        trainer.add_callback(Catch())

        def frozen(prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
            return [list(next(by_text[tokenizer.decode(ids)]).turns[0].output_ids) for ids in prompt_ids], None

        trainer._generate_single_turn = frozen  # type: ignore[method-assign]
        trainer.train()
    assert trainer.seen_loss is not None
    return trainer.seen_loss, found


def _norm(grads: dict[str, torch.Tensor]) -> float:
    return float(torch.stack([g.norm() for g in grads.values()]).norm())


def _largest(grads: dict[str, torch.Tensor]) -> float:
    return max(float(g.abs().max()) for g in grads.values())


def _grads(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
