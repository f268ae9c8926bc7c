"""One arm of the quickstart in a process of its own: train, then measure on the held-out problems."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import torch

from burnish.hardware.flops import forward_flops, training_flops
from burnish.inference.engine import Engine
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.quickstart.settings import QuickstartConfig
from burnish.recipes.train import train
from burnish.records import Item, Limits, Sampling
from burnish.rl.rewards.task import TaskVerifier
from burnish.runs import checkpoints
from burnish.tasks.evaluation import EvalResult, evaluate
from burnish.tasks.scoring import to_items

SAMPLED, GREEDY = Sampling(temperature=1.0), Sampling(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What became of an arm. model: folder. sampled, greedy: results on the held-out problems as JSON. seconds: of training."""

    name: str
    model: str
    sampled: str
    greedy: str
    seconds: float
    flops: float


def run_arm(
    name: str, config: QuickstartConfig, training: TrainConfig | None, model: str, flops: float, command: str, silent: bool
) -> Measured:
    """Trains `training` (None: nothing) from `model`, then measures. One thread, so that two arms do not slow each other."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    if training is not None:
        run = train(training, command=command, silent=silent)["run"]
        model = str(checkpoints.newest(run.path))
    seconds = time.perf_counter() - start
    sampled, greedy = measure(name, config, model)
    return Measured(name, model, sampled.to_json(), greedy.to_json(), seconds, flops)


def measure(name: str, config: QuickstartConfig, model: str) -> tuple[EvalResult, EvalResult]:
    """One sampled (temperature 1) and one greedy completion of every held-out problem; the same seeds for every arm."""
    policy = Policy(*load_model(model))
    engine = Engine(policy.model, policy.tokenizer, policy.eos_ids, slots=128)
    reward = TaskVerifier("sort", length=config.length)
    items = held_out_items(config, policy)
    results = [
        evaluate(policy, items, reward, sampling=sampling, seed=config.seed, engine=engine, name=name) for sampling in (SAMPLED, GREEDY)
    ]
    return results[0], results[1]


def held_out_items(config: QuickstartConfig, policy: Policy) -> list[Item]:
    """The held-out problems as items."""
    problems = config.task.items(config.held_out, config.seed, "test")
    return to_items(problems, policy.encode, limits=Limits(max_new_tokens=config.length + 3))


def same_ids_as_transformers(config: QuickstartConfig, model: str, n: int = 32) -> bool:
    """Does `AutoModelForCausalLM` load the checkpoint and decode greedily to the ids of our engine?"""
    from transformers import AutoModelForCausalLM

    from burnish.inference.generate import generate

    policy = Policy(*load_model(model))
    prompts = [item.token_ids for item in held_out_items(config, policy)[:n]]
    ours = generate(Engine(policy.model, policy.tokenizer, policy.eos_ids), prompts, GREEDY, max_new_tokens=config.length + 3)
    theirs = AutoModelForCausalLM.from_pretrained(Path(model)).eval()
    for prompt, turns in zip(prompts, ours):
        ids = torch.tensor([prompt])
        found = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=config.length + 3, do_sample=False)
        if found[0, len(prompt) :].tolist() != turns[0].output_ids:
            return False
    return True


def budgets(config: QuickstartConfig, model: torch.nn.Module) -> tuple[float, float, int]:
    """(FLOPs of SFT, FLOPs of RL, SFT steps that cost as much as RL). RL pays for sampling, too; a group's prompt is computed once."""
    prompt, answer = config.length + 1, config.length + 1
    keys = (prompt + answer) / 2
    step = training_flops(model, config.sft_batch * (prompt + answer), keys)
    tokens = config.rl_prompts * (prompt + config.group_size * answer)
    rl = config.rl_steps * (forward_flops(model, tokens, keys) + training_flops(model, tokens, keys))
    return config.sft_steps * step, rl, math.ceil(rl / step)
