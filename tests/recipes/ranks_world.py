"""One optimiser step of every objective on one fixed batch, and one SFT step: what two ranks must compute like one process."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from burnish.data.examples import Example
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.recipes.policy import COPIES
from burnish.records import Group, Item, Rollout, Sampling, Score
from burnish.rl.batch import Batch
from burnish.rl.learner import Learner
from burnish.rl.measure import Measurer
from burnish.rl.objectives import presets
from burnish.runs.groups import ParamGroup
from burnish.runs.groupset import GroupSet
from burnish.sft.step import Stepper


def cases(kind: str) -> dict[str, Callable[[], dict[str, Any]]]:
    """name -> function that gives {"metrics", "gradient", "passes"} of one step, by itself or as one of several ranks."""
    torch.manual_seed(0)
    words = tokenizer.byte_level()
    policy = Policy(tiny.make("qwen3", words, hidden=32, layers=2, seed=5, dtype=getattr(torch, kind)), words)
    batch = make_batch(policy)
    out = {name: functools.partial(step, policy, batch, name) for name in presets.names()}
    out["grpo, several updates"] = functools.partial(step, policy, batch, "grpo", minibatches=2, epochs=2, micro_tokens=40)
    few = Batch(1, 0, batch.groups, [[number == place == 0 for place in range(3)] for number in range(4)])
    out["reinforce, one rollout"] = functools.partial(step, policy, few, "reinforce")  # the other rank has none
    out["sft"] = functools.partial(sft, policy)
    return out


def make_batch(policy: Policy, seed: int = 0) -> Batch:
    """Four groups of three ragged completions with random rewards, one rollout dropped, one without loss tokens."""
    random = np.random.default_rng(seed)
    prompts = [random.integers(40, 110, size=n).tolist() for n in (5, 9, 6, 12)]
    turns = generate(Engine(policy.model, eos_ids=policy.eos_ids), prompts, Sampling(), n=3, max_new_tokens=8, seeds=seed)
    groups = []
    for number, (prompt, members) in enumerate(zip(prompts, turns)):
        for place, turn in enumerate(members):
            size = 0 if (number, place) == (2, 1) else 2 + (number + 2 * place) % 6
            for name in ("output_ids", "logprobs", "injected", "version"):
                setattr(turn, name, getattr(turn, name)[:size])
            turn.logprobs = turn.logprobs + random.normal(0, 0.1, len(turn.logprobs)).astype(turn.logprobs.dtype)  # another policy drew it
        rollouts = [Rollout(f"p{number}", place, [turn], turn.stop) for place, turn in enumerate(members)]
        groups.append(Group(Item(f"p{number}", prompt, 3), rollouts, [Score(float(random.normal())) for _ in members]))
    keep = [[(number, place) != (1, 2) for place in range(3)] for number in range(4)]
    return Batch(1, 0, groups, keep)


def step(policy: Policy, batch: Batch, name: str, **settings: Any) -> dict[str, Any]:
    """One batch through the learner; every move's gradient is kept, and moves the weights where there are several."""
    objective = presets.make(name).for_run(3, 8)
    models = {"policy": policy}
    for need in (*objective.needs(), *objective.grad_needs()):
        if need.model not in models:
            torch.manual_seed(1)
            models[need.model] = COPIES[need.model](policy)
            if need.model == "reference":
                for n, parameter in enumerate(models["reference"].model.parameters()):
                    parameter.data *= 1 + 0.01 * (n % 3)  # a reference that differs
    learner = Learner(policy, objective, Measurer(models), **settings)
    start = {key: value.clone() for key, value in policy.model.state_dict().items()}
    groups = GroupSet({name: _group(one) for name, one in learner.trained.items()})
    seen: dict[str, torch.Tensor] = {}
    passes = 0

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal passes
        passes += 1
        return policy_score(*args, **more)

    def mover(names: Any = None) -> dict[str, float]:
        seen.update({f"{groups.moves} {key} {at}": p.grad.clone() for key, group in groups.groups.items() for at, p in group.named.items()})
        return groups.move(names)

    policy_score = learner.measurer.differentiate
    learner.measurer.differentiate = counted
    metrics = learner.update(batch, 1, mover)
    policy.model.load_state_dict(start)
    return {"metrics": {key: float(value) for key, value in metrics.items()}, "gradient": seen, "passes": passes}


def sft(policy: Policy) -> dict[str, Any]:
    """One SFT step of ragged examples."""
    random = np.random.default_rng(3)
    examples = []
    for _ in range(7):
        mask = random.random(int(random.integers(3, 30))) < 0.6
        mask[-1] = True
        examples.append(Example(random.integers(0, 256, len(mask)).tolist(), mask))
    policy.model.zero_grad()
    found = Stepper(policy, micro_tokens=40).gradient(examples)
    seen = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    policy.model.zero_grad()
    return {"metrics": found.metrics(), "gradient": seen, "passes": 0}


def _group(model: Policy) -> ParamGroup:
    module = torch.nn.ModuleList([part for part in (model.model, model.value_head) if part is not None])
    return ParamGroup(module, torch.optim.SGD([parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.1))


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """How far two results of one step are apart.

    gradient: the largest difference, relative to the largest entry. loss: relative to its terms, which nearly cancel in some presets.
    metrics: names of those that are off by more than rounding. keys: metrics and gradients that only one of the two has.
    """
    scale = max(float(value.abs().max()) for value in wanted["gradient"].values())
    gap = max(float((found["gradient"][name] - value).abs().max()) for name, value in wanted["gradient"].items())
    ours, theirs = found["metrics"], wanted["metrics"]
    close = 1e-5 if next(iter(wanted["gradient"].values())).dtype == torch.float32 else 1e-10
    off = [key for key in theirs if key in ours and abs(ours[key] - theirs[key]) > close * max(1.0, abs(theirs[key]))]
    return {
        "gradient": gap / scale,
        "scale": scale,
        "loss": abs(ours["loss"] - theirs["loss"]) / max(abs(theirs["loss"]), theirs.get("advantage/abs_mean", 0.0)),
        "metrics": off,
        "keys": sorted(set(ours) ^ set(theirs)) + sorted(set(found["gradient"]) ^ set(wanted["gradient"])),
    }
