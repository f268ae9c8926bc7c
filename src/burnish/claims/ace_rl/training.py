"""The base model of a seed; how far each judge's rewards spread on its texts; and one run of an arm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.ace_rl.rewards import measured, reward_of
from burnish.claims.ace_rl.settings import ARMS
from burnish.claims.ace_rl.verifier import SelfVerifier, train_head
from burnish.claims.ace_rl.world import ALPHABET, PROMPT, WORDS_AT_MOST, demonstrations, tasks
from burnish.claims.harness.claim import shared_of
from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.load import load_model
from burnish.models.policy import Policy
from burnish.models.save import save_model
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.records import Item, Limits, Rollout, Sampling, StopReason
from burnish.rl.rewards.ace_rl.tally import spread
from burnish.rl.trainer import Trainer
from burnish.runs.config import build
from burnish.runs.folder import Run
from burnish.runs.seeds import seed_everything, seed_for
from burnish.sft.config import SFTConfig
from burnish.sft.train import train_sft
from burnish.tasks.completions import Completions
from burnish.tasks.evaluation import evaluate

NEW_TOKENS = WORDS_AT_MOST + 1
HEAD_TEST = 200


def make_base(settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Fills `folder` with `model`, fine-tuned on a careless teacher's documents, and `head.safetensors`, the self-verifier on it."""
    sft = settings["sft"]
    words = tokenizer.characters(ALPHABET)
    network = tiny.make("qwen3", words, hidden=settings["hidden"], layers=2, heads=4, kv_heads=2, max_length=PROMPT + NEW_TOKENS, seed=seed)
    policy = Policy(network, words)
    taught = demonstrations(sft["rows"], seed, settings["care"], settings["off"])
    rows = [{"id": f"sft-{place}", "prompt": task.prompt, "completion": text} for place, (task, text) in enumerate(taught)]
    shutil.rmtree(folder / "sft", ignore_errors=True)
    config = SFTConfig(steps=sft["steps"], batch_size=sft["batch"], learning_rate=sft["rate"], schedule="cosine", warmup=0.05, seed=seed)
    train_sft(policy, to_examples(load_rows(rows), policy, "completion", None), config, Run.create(folder / "sft", config))
    train_head(policy, taught[: settings["verifier"]["rows"]], settings["verifier"], seed, folder / "head.safetensors")
    save_model(policy.model, policy.tokenizer, folder / "model")


def items(policy: Policy, n: int, seed: int, split: str, group: int = 1) -> list[Item]:
    """Tasks as items."""
    rows = [task.row(f"{split}-{place}") for place, task in enumerate(tasks(n, seed, split))]
    return [Item(row["id"], policy.encode(row.pop("prompt")), group, Limits(NEW_TOKENS), row) for row in rows]


def spreads(settings: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Step 0: the same completions of the base model, scored by every arm's reward.

    std: mean within-group sample standard deviation of the reward, by arm; zero: the share of groups without any; std_of: the same of
    each part. verifier: the self-verifier's share of right grades, on documents that it was not trained on.
    """
    policy = Policy(*load_model(str(shared_of(folder) / "model")))
    drawn = items(policy, settings["spread_prompts"], seed + 1000, "train", settings["group"])
    engine = Engine(policy.model, policy.tokenizer, tuple(policy.eos_ids), mode="fast", slots=64)
    turns = generate(engine, [item.token_ids for item in drawn], Sampling(), settings["group"], NEW_TOKENS, seed_for("ace-rl spread", seed))
    groups = [
        Completions(
            item,
            [Rollout(item.id, n, [turn], StopReason(turn.stop)) for n, turn in enumerate(own)],
            [policy.decode(turn.output_ids) for turn in own],
        )
        for item, own in zip(drawn, turns)
    ]
    out: dict[str, Any] = {"std": {}, "zero": {}, "std_of": {}}
    for arm in ARMS:
        reward = reward_of(arm, settings, shared_of(folder))
        scored = [reward(group) for group in groups]
        rewards = [[score.reward for score in scores] for scores in scored]
        out["std"][arm] = float(np.mean([spread(one) for one in rewards]))
        out["zero"][arm] = float(np.mean([max(one) - min(one) < 1e-12 for one in rewards]))
        for name in scored[0][0].parts:
            out["std_of"][f"{arm}: {name}"] = float(np.mean([spread([score.parts[name] for score in scores]) for scores in scored]))
    head = SelfVerifier(policy, shared_of(folder) / "head.safetensors")
    out["verifier"] = head.right(demonstrations(HEAD_TEST, seed + 2000, settings["care"], settings["off"]))
    return out


def train_and_measure(arm: str, rate: float, settings: Mapping[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """One run. base, final: satisfaction, share of texts that meet all, length, length error on held-out prompts, by the exact program.
    curve: [tokens, satisfaction, length error]. zero: mean share of groups without variance. steps, tokens, flops: spent.
    """
    seed_everything(seed)
    shutil.rmtree(folder / "run", ignore_errors=True)
    config = config_of(rate, settings, seed, folder)
    policy = Policy(*load_model(str(shared_of(folder) / "model")))
    mean_tokens = 55 * settings["rl_prompts"] * settings["group"]
    drawn = items(policy, 2 * settings["rl_prompts"] * (settings["tokens"] // mean_tokens + 1), seed + 1, "train", settings["group"])
    held_out = items(policy, settings["held_out"], seed, "test")
    run = Run.create(folder / "run", config, command=f"claims ace-rl: {arm}")
    trainer = build_trainer(config, policy, drawn, [], run, reward_of(arm, settings, shared_of(folder)))
    curve = [[0.0, *look(policy, held_out, settings, seed)]]
    watch(trainer, settings["tokens"], lambda spent: curve.append([spent, *look(policy, held_out, settings, seed)]), settings["points"])
    result = trainer.run()
    curve.append([settings["tokens"], *look(policy, held_out, settings, seed)])
    metrics = run.metrics()
    names = ("satisfaction", "all_met", "length", "length_error")
    return {
        "base": dict(zip(names, curve[0][1:])),
        "final": dict(zip(names, curve[-1][1:])),
        "curve": [[round(value, 5) for value in point] for point in curve],
        "zero": float(np.mean([row["frac_reward_zero_std"] for row in metrics])),
        "rewards": [round(float(row["reward"]), 4) for row in metrics],
        "steps": result.step,
        "tokens": float(metrics[-1]["compute/tokens"]),
        "flops": float(metrics[-1].get("compute/flops", 0.0)),
    }


def config_of(rate: float, settings: Mapping[str, Any], seed: int, folder: Path) -> TrainConfig:
    """GRPO with the group's standard deviation, no KL: the same for all arms."""
    batch = settings["rl_prompts"] * settings["group"]
    rl = {
        "objective": "grpo",
        "beta": 0.0,
        "steps": 2 * max(1, settings["tokens"] // (batch * 30)),  # the token budget ends the run long before
        "learning_rate": rate,
        "prompts_per_step": settings["rl_prompts"],
        "group_size": settings["group"],
        "max_new_tokens": NEW_TOKENS,
        "engine_mode": "fast",
        "slots": batch,
        "save_steps": None,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    return build(TrainConfig, {"stage": "rl", "seed": seed, "threads": 1, "output": str(folder / "run"), "rl": rl})


def look(policy: Policy, held_out: Sequence[Item], settings: Mapping[str, Any], seed: int) -> list[float]:
    """Satisfaction, share that meets all, length, length error: means over held-out prompts at temperature 1, the same draws every time."""
    engine = Engine(policy.model, policy.tokenizer, tuple(policy.eos_ids), mode="fast", slots=64)
    found = evaluate(policy, held_out, measured, settings["samples"], Sampling(), seed=seed, engine=engine)
    rows = [
        (reward, success, parts["length"], parts["length_error"])
        for one in found.items
        for reward, success, parts in zip(one.rewards, one.successes, one.parts)
    ]
    return [float(value) for value in np.array(rows, dtype=np.float64).mean(0)]


def watch(trainer: Trainer, budget: int, measure: Any, points: int) -> None:
    """Ends the run after the step in which the generated tokens reach the budget; `measure(tokens)` on the way, `points` times."""
    spent, seen = [0.0], [0]

    def count(batch: Any, metrics: Mapping[str, float]) -> None:
        spent[0] += float(metrics["rollouts/drawn"]) * float(metrics["completions/mean_length"])
        if seen[0] < points and spent[0] >= budget * (seen[0] + 1) / (points + 1):
            seen[0] += 1
            measure(spent[0])

    trainer.observers = (*trainer.observers, count)
    trainer.loop.stop_check = lambda: spent[0] >= budget
