"""One run of scalerl.3: the whole recipe, or the recipe with one part reverted, on chains that are thought out and then answered.

`k*-#..>` -> `mlo>o`: the states are the thinking, ">" closes it, and the last character is the answer. So the forced interruption has
something to cut short: it appends ">" to a thought that is as long as the longest chain needs, or one state less.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish.claims.harness.claim import shared_of
from burnish.claims.scalerl.chains import Chain, ceiling, chains, check
from burnish.claims.scalerl.policy import fine_tune, make_policy, parameters
from burnish.claims.scalerl.training import evaluator, fresh
from burnish.data.formats import load_rows
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.recipes.train import items_of
from burnish.rl.rewards.verifier import Verifier
from burnish.runs import atomic
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything
from burnish.tasks.eval_steps import load_successes

CLOSE = ">"
LAG = 8
SCALERL: dict[str, Any] = {
    "credit": ["group_mean", "batch_std"],
    "ratio": {"name": "token", "against": "sampler"},
    "surrogate": {"name": "cispo", "min_ratio": 0.0, "max_ratio": 5.0},
    "weights": "prompt_mean",
}
PARTS: dict[str, dict[str, Any]] = {
    "scalerl": {},
    "loss": {"objective": {"surrogate": {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.26}}},
    "head": {"half_head": True},
    "aggregation": {"objective": {"weights": "sequence_mean"}},
    "normalisation": {"objective": {"credit": ["group_mean", "group_std"]}},
    "filter": {"rl": {"filters": []}},
    "retirement": {"rl": {"curriculum": "shuffled_epochs"}},
    "interruption": {"interrupted": False},
    "pipeline": {"updates": LAG},
}
"""What each arm reverts: the loss to DAPO's clip, the head to half precision, the mean over prompts to GRPO's over completions, the batch's
standard deviation to the group's, the zero-variance filter and the retirement to none, the interruption to a length penalty, PipelineRL-8
to PPO-off-policy-8.
"""


class HalfHead(nn.Linear):
    """A linear layer whose product is rounded to bfloat16, as the head of a model in half precision."""

    def forward(self, input: Tensor) -> Tensor:
        """Logits, in the dtype that came in."""
        bias = None if self.bias is None else self.bias.bfloat16()
        return nn.functional.linear(input.bfloat16(), self.weight.bfloat16(), bias).to(input.dtype)


def thought(one: Chain) -> Chain:
    """A chain written as thinking and answer."""
    return dataclasses.replace(one, states=one.states + CLOSE + one.states[-1])


def prepare(settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    """The fine-tuned policy of a seed, from which all arms start."""
    if (folder / "base" / "sft.json").exists():
        return
    policy = make_policy(settings["hidden"], seed)
    tuning = settings["sft"] | {key: settings[key] for key in ("share", "longest", "prompts")}
    steps, rate = fine_tune(policy, fresh(folder), seed, tuning, thought)
    save_model(policy.model, policy.tokenizer, folder / "base")
    atomic.write_text(folder / "base" / "sft.json", json.dumps({"steps": steps, "pass_rate": rate}) + "\n")


def rl_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `rl` of an arm. Every arm makes the same number of updates on as many prompts each."""
    part = PARTS[settings["part"]]
    updates, longest = part.get("updates", 1), settings["longest"]
    limit = longest + 3
    thinker: Any = {"name": "interrupted", "low": max(1, longest - 1), "high": longest, "phrase": CLOSE, "end": CLOSE}
    interrupted = part.get("interrupted", True)
    return {
        "steps": settings["updates"] // updates,
        "learning_rate": settings["rate"],
        "prompts_per_step": settings["rl_prompts"] * updates,
        "minibatches": updates,
        "lag": 0 if updates > 1 else LAG,
        "group_size": settings["group"],
        "max_new_tokens": limit,
        "objective": {"preset": "scalerl", **SCALERL, **part.get("objective", {})},
        "curriculum": {"name": "retirement", "at": 0.9, "window": "last", "min_count": 1},
        "filters": ["zero_variance"],
        "thinker": thinker if interrupted else "single",
        "shapers": [] if interrupted else [{"name": "overlong", "max_length": limit, "cache": 2}],
        "engine_mode": "fast",
        "slots": settings["rl_prompts"] * settings["group"] * updates,
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 0,
        **part.get("rl", {}),
    }


def train_and_measure(settings: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One arm with one seed. JSON values: compute (tokens x parameters) and each held-out prompt's successes at every evaluation."""
    asked = [thought(one) for one in chains(settings["prompts"], seed, "test", settings["share"], settings["longest"])]
    policy = Policy(*load_model(str(shared_of(folder) / "base")))
    if PARTS[settings["part"]].get("half_head"):
        model: Any = policy.model
        model.get_output_embeddings().__class__ = HalfHead
    torch.set_num_threads(1)
    rl = rl_settings(settings)
    place = fresh(folder) / "rl"
    config = build(TrainConfig, {"stage": "rl", "seed": seed, "output": str(place), "threads": 1, "rl": rl})
    run = Run.create(place, config, command="burnish verify scalerl")
    seed_everything(seed)
    problems = chains(settings["problems"], seed + 1, "train", settings["share"], settings["longest"])
    rows = load_rows([one.row(f"rl-{number}") for number, one in enumerate(problems)])
    items = items_of(config, policy, rows, config.rl.group_size)
    trainer = build_trainer(config, policy, items, [], run, Verifier(check, name="chain"))
    trainer.loop.eval_fn = evaluator(policy, asked, dict(settings), seed, place)
    trainer.loop.eval_steps = settings["eval_every"] // PARTS[settings["part"]].get("updates", 1)
    trainer.run()
    tokens = {int(row["step"]): float(row["compute/tokens"]) for row in run.metrics() if "compute/tokens" in row}
    found = load_successes(place)
    names = [f"held-out-{number}" for number in range(len(asked))]
    last = run.metrics()[-1]
    return {
        "ceiling": ceiling([dataclasses.replace(one, states=one.states[-1]) for one in asked]),
        "samples": settings["samples"],
        "updates": rl["steps"] * rl["minibatches"],
        "compute": [0.0] + [tokens[step] * parameters(policy) for step in sorted(found) if step],
        "successes": [[round(one.items[name][0]) for name in names] for _, one in sorted(found.items())],
        "retired": float(last.get("curriculum/retired", 0.0)),
    }
