"""burnish's side: the trainer as `burnish train` builds it, with a clock around its generation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.race import setup
from benchmarks.race.gate import Gate

from burnish.models.policy import Policy
from burnish.recipes.config import RLConfig, TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.records import Item, Limits, Rollout
from burnish.rl.trainer import Trainer
from burnish.runs.folder import Run

OBJECTIVE = {
    "preset": "grpo",
    "credit": ["group_mean", {"name": "group_std", "eps": setup.SCALE_EPS, "ddof": 1}],
    "surrogate": {"name": "ppo_clip", "clip_low": setup.CLIP, "clip_high": setup.CLIP},
    "weights": "token_mean",
}


class Ticks:
    """The loop's progress bar: told after each step, once its row is written."""

    def __init__(self, gate: Gate):
        self.gate = gate

    def update(self, step: int, row: dict[str, Any]) -> None:
        """The end of an optimiser step, with everything the loop does in it."""
        self.gate.tick()


def config(case: setup.Case, steps: int, folder: str) -> TrainConfig:
    """The same settings as TRL's."""
    rl = RLConfig(
        steps=steps,
        learning_rate=setup.LEARNING_RATE,
        max_grad_norm=setup.MAX_GRAD_NORM,
        prompts_per_step=case.prompts,
        group_size=case.group,
        max_new_tokens=case.cap,
        objective=OBJECTIVE,
        beta=0.0,
        engine_mode=setup.ENGINE_MODE,
        keep_rollouts=0,
        save_steps=None,
    )
    return TrainConfig(stage="rl", output=folder, threads=1, rl=rl)


def items(case: setup.Case, policy: Policy) -> list[Item]:
    """The prompts as items."""
    limits = Limits(max_new_tokens=case.cap)
    return [Item(str(n), policy.encode(text), case.group, limits) for n, text in enumerate(setup.prompts())]


def make_trainer(case: setup.Case, policy: Policy, steps: int, folder: str, gate: Gate | None = None) -> Trainer:
    """The trainer on the race's prompts and reward."""
    settings = config(case, steps, folder)
    run = Run.create(folder, settings)
    return build_trainer(settings, policy, items(case, policy), [], run, setup.variety, progress=Ticks(gate) if gate else None)


def run(case: setup.Case, steps: int, gate: Gate) -> None:
    """The whole side: one step for each "go"."""
    model, tokenizer = setup.make_model(case)
    policy = Policy(model, tokenizer)
    with tempfile.TemporaryDirectory() as parent:
        trainer = make_trainer(case, policy, steps, f"{parent}/run", gate)
        source = trainer.queue.source
        think = gate.timed("generate", source.think)

        def noted(*args: Any) -> Any:
            found = think(*args)
            _note(gate, [rollout for _, rollouts in found for rollout in rollouts])
            return found

        source.think = noted  # type: ignore[method-assign]
        engine = source.engine
        gate.ready(parameters=sum(p.numel() for p in model.parameters()), flags={"engine": engine.mode, "path": engine.path})
        trainer.run()


def _note(gate: Gate, rollouts: Sequence[Rollout]) -> None:
    lengths = [rollout.n_loss_tokens for rollout in rollouts]
    gate.notes.update(mean_length=sum(lengths) / len(lengths), max_length=max(lengths))
