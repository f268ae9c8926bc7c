"""From names to a running RL trainer: the one place that sees all rooms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import AdamW

from burnish.inference.backends.built_in import BuiltIn
from burnish.inference.backends.protocol import CAPABILITIES, label, make_backend, require
from burnish.inference.engine import Engine
from burnish.models.eval_mode import switch_checkpointing
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import write_files
from burnish.recipes.config import RLConfig, TrainConfig
from burnish.recipes.pipeline import build_queue, observers
from burnish.recipes.policy import COPIES
from burnish.records import Item
from burnish.rl.compute import ComputeMeter
from burnish.rl.curricula.base import make_curriculum
from burnish.rl.filters.combine import make_filter
from burnish.rl.learner import Learner
from burnish.rl.measure import Measurer, models_of
from burnish.rl.objectives import presets
from burnish.rl.objectives.objective import Objective
from burnish.rl.queue import Queue
from burnish.rl.rewards.weighted import Weighted, bind
from burnish.rl.rollouts.agent import make_thinker
from burnish.rl.source import Source
from burnish.rl.temperature import TemperatureControl
from burnish.rl.trainer import Trainer, parts_of
from burnish.runs import atomic, parts, schedules
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.groups import ParamGroup
from burnish.runs.loop import Loop
from burnish.tasks.eval_steps import save_successes
from burnish.tasks.evaluation import EvalResult, evaluate

ROOM = "burnish.rl"
BACKEND_NEEDS = ("token_ids", "logprobs", "load_weights")


def build_objective(config: RLConfig) -> Objective:
    """The objective by preset name, or {preset: name, knob: value}; `beta` changes its KL coefficient."""
    found = presets.make(config.objective)
    return found if config.beta is None else found.with_(beta=config.beta)


def build_reward(config: RLConfig, policy: Policy | None, reward: Any = None) -> Weighted:
    """All rewards as one: named ones, a user's own, or objects; functions in TRL's signature are wrapped unchanged.

    One that is made already is only told the policy (None: to be told later).
    """
    if isinstance(reward, Weighted):
        if policy is not None:
            reward.bind(policy.decode)
        return reward
    given = config.rewards if reward is None else reward if isinstance(reward, list | tuple) else [reward]
    return weighted(given, policy, config.weights, config.success_above)


def weighted(specs: Sequence[Any], policy: Policy | None, weights: Sequence[float] = (), success_above: float | None = None) -> Weighted:
    """Rewards added up. The bare name of a task stands for that task's verifier."""
    tasks = parts.names("burnish.tasks")
    spelled = [{"name": "task", "task": spec} if isinstance(spec, str) and spec in tasks else spec for spec in specs]
    return Weighted(spelled, weights or None, policy.decode if policy is not None else None, success_above)


def build_backend(config: TrainConfig, thinker: Any) -> Any:
    """The backend that samples in place of the built-in engine; None for that one, whose session verbs thinkers use directly.

    Raises UserError, before anything loads, where it lacks what reinforcement learning or the thinker needs (`thinker.requires`; a
    thinker that declares nothing may need everything), is not installed, or does not go with other settings.
    """
    rl = config.rl
    backend = make_backend(rl.backend)
    require(backend, rl.backend, BACKEND_NEEDS, "reinforcement learning")
    declared = getattr(thinker, "requires", None)
    who = f"the thinker {label(rl.thinker)}" + ("" if declared is not None else " (it declares no `requires`, so it may)")
    require(backend, rl.backend, CAPABILITIES if declared is None else declared, who)
    if type(backend) is BuiltIn:
        return None
    if rl.engine_mode == "exact":
        raise UserError(f"rl.engine_mode exact is the built-in engine's; rl.backend {label(rl.backend)} has no such mode: leave it out")
    if config.model.quantize in ("nf4", "fp4"):
        raise UserError(f"model.quantize: rl.backend {label(rl.backend)} cannot be handed a 4-bit base; use rl.backend: built_in")
    backend.check(config.sampling.sampling())
    return backend


def build_source(
    config: TrainConfig, policy: Policy, items: Sequence[Item], measurer: Measurer, objective: Objective, reward: Any
) -> Source:
    """Curriculum, thinker, rewards, shapers, filters, temperature control and engine, wired up."""
    rl = config.rl
    filters = rl.filters if rl.filters is not None else presets.filters(objective.name)
    thinker = make_thinker(rl.thinker)
    shapers = [parts.make(f"{ROOM}.rewards", spec) for spec in rl.shapers]
    for shaper in shapers:
        bind(shaper, policy.decode)
    if (backend := build_backend(config, thinker)) is not None:
        backend.bind(policy)
    return Source(
        policy=policy,
        engine=Engine(policy.model, policy.tokenizer, policy.eos_ids, mode=rl.engine_mode, slots=rl.slots, max_length=policy.max_length),
        curriculum=make_curriculum(rl.curriculum, items),
        thinker=thinker,
        backend=backend,
        reward=build_reward(rl, policy, reward),
        measurer=measurer,
        shapers=shapers,
        filters=[make_filter(spec) for spec in filters],
        prompts=rl.prompts_per_step,
        sampling=config.sampling.sampling(),
        template_args=config.model.template_args,
        seed=config.seed,
        max_rounds=rl.max_rounds,
        temperature=TemperatureControl(rl.temperature, config.sampling.temperature) if rl.temperature is not None else None,
    )


def build_trainer(
    config: TrainConfig,
    policy: Policy,
    items: Sequence[Item],
    held_out: Sequence[Item],
    run: Run,
    reward: Any = None,
    *,
    trackers: Sequence[Any] = (),
    progress: Any = None,
) -> Trainer:
    """A Trainer ready to `run()`. Raises UserError for impossible combinations."""
    rl = config.rl
    models = {"policy": policy}
    meter = ComputeMeter(policy.model, rl.share_prefix, rl.epochs)
    measurer = Measurer(models, micro_tokens=rl.micro_tokens, share_prefix=rl.share_prefix, observe=meter.measured)
    objective = build_objective(rl)
    source = build_source(config, policy, items, measurer, objective, reward)
    scorers = (source.reward, *source.shapers)
    objective = objective.for_run(rl.group_size, rl.max_new_tokens, source.sampling, parts=scorers)
    needs = [*objective.needs(), *objective.grad_needs(), *(need for part in scorers for need in getattr(part, "needs", ()))]
    models |= {name: make(policy) for name, make in COPIES.items() if name in models_of(needs)}
    measurer.check(needs)
    learner = Learner(
        policy, objective, measurer, rl.minibatches, rl.epochs, rl.micro_tokens, rl.share_prefix, seed=config.seed,
        trust_sampler=source.backend is None,
    )  # fmt: skip
    meter.trained = [one.model for one in learner.trained.values()]
    if config.model.gradient_checkpointing:
        for trained in learner.trained.values():
            switch_checkpointing(trained.model, True)
    queue = build_queue(config, source, run)
    loop = build_loop(config, policy, source, queue, learner, held_out, run, trackers, progress)
    loop.parts["compute"] = meter
    if run.writes:
        measure_baselines(config, source, held_out, run)
    source.timer = learner.timer = loop.timer
    return Trainer(queue, learner, loop, run, loop.timer, rl.keep_rollouts, observers=(*observers(queue), meter))


def build_loop(
    config: TrainConfig,
    policy: Policy,
    source: Source,
    queue: Queue,
    learner: Learner,
    held_out: Sequence[Item],
    run: Run,
    trackers: Sequence[Any],
    progress: Any,
) -> Loop:
    """The resumable loop with one group of parameters for each model that is trained (the policy, a critic)."""
    rl, ev = config.rl, config.eval
    evaluates = bool(ev.steps and held_out)
    return Loop(
        run,
        {name: param_group(rl, model) for name, model in learner.trained.items()},
        parts_of(queue, learner),
        total_steps=rl.steps,
        save_steps=rl.save_steps,
        save_total_limit=rl.save_total_limit,
        save_model=lambda path: write_files(policy, None, path),
        eval_fn=evaluator(config, policy, source, held_out, run) if evaluates else None,
        eval_steps=ev.steps if evaluates else None,
        eval_first=evaluates,
        metric_for_best=ev.metric_for_best if evaluates else None,
        greater_is_better=ev.greater_is_better,
        patience=ev.patience if evaluates else None,
        trackers=trackers,
        progress=progress,
    )


def param_group(rl: RLConfig, model: Policy) -> ParamGroup:
    """A model's trained parameters with an optimiser of their own; a critic may have its own learning rate."""
    module = model.model if model.value_head is None else torch.nn.ModuleDict({"model": model.model, "value_head": model.value_head})
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate = rl.critic_learning_rate if model.name == "critic" and rl.critic_learning_rate is not None else rl.learning_rate
    optimizer = AdamW(trained, lr=rate, betas=rl.betas, eps=rl.epsilon, weight_decay=rl.weight_decay)
    schedule = schedules.make(rl.schedule, rl.steps * rl.minibatches * rl.epochs, rl.warmup)
    return ParamGroup(module, optimizer, schedule, max_grad_norm=rl.max_grad_norm)


def evaluator(
    config: TrainConfig, policy: Policy, source: Source, held_out: Sequence[Item], run: Run | None = None
) -> Callable[[int], dict[str, float]]:
    """Held-out evaluation on the training engine: the same items and seeds at every step; each item's successes are kept in `run`."""
    sampling = dataclasses.replace(source.sampling, temperature=config.eval.temperature)

    def measure(step: int) -> dict[str, float]:
        source.engine.refresh(step)
        found = evaluate(
            policy,
            held_out,
            source.reward,
            samples=config.eval.samples,
            sampling=sampling,
            seed=config.seed,
            engine=source.engine,
            template_args=config.model.template_args,
        )
        if run is not None:
            save_successes(run, step, found)
        return eval_metrics(found)

    return measure


def measure_baselines(config: TrainConfig, source: Source, held_out: Sequence[Item], run: Run) -> None:
    """`evals/<name>.json` for each model of eval.baselines, measured once like the policy itself; the report draws them as lines."""
    sampling = dataclasses.replace(source.sampling, temperature=config.eval.temperature)
    for name, path in config.eval.baselines.items():
        target = run.path / "evals" / f"{name}.json"
        if target.exists() or not held_out:
            continue
        with atomic.explained(target):
            target.parent.mkdir(exist_ok=True)
        other = Policy(*load_model(path))
        other.model.to(source.policy.device)
        found = evaluate(
            other,
            held_out,
            source.reward,
            config.eval.samples,
            sampling,
            seed=config.seed,
            name=name,
            template_args=config.model.template_args,
        )
        found.save(target)


def eval_metrics(result: EvalResult) -> dict[str, float]:
    """`eval/success` and `eval/reward` with their 95 % intervals, pass@k, truncated share."""
    out: dict[str, float] = {}
    for name, interval in (("success", result.success()), ("reward", result.reward())):
        if interval.mean == interval.mean:
            out |= {f"eval/{name}": interval.mean, f"eval/{name}_low": interval.low, f"eval/{name}_high": interval.high}
    if result.samples > 1 and "eval/success" in out:
        out[f"eval/pass@{result.samples}"] = result.pass_at(result.samples).mean
    return out | {"eval/truncated": result.truncated, "eval/invalid": float(result.n_invalid)}
