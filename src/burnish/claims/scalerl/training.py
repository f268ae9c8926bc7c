"""One run of scalerl.1: a small policy fine-tuned on chains, then RL with the preset `scalerl`, evaluated every few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from burnish.claims.scalerl.chains import Chain, ceiling, chains, check
from burnish.claims.scalerl.policy import fine_tune, make_policy, parameters, pass_rates
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
from burnish.runs.seeds import seed_everything, seed_for
from burnish.tasks.eval_steps import StepSuccesses, load_successes, path_of, write_successes


def train_and_measure(settings: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Everything of one seed; goes on where it was killed. Returns JSON values.

    compute: tokens written so far times parameters, at each evaluation; successes: of each held-out prompt, of `samples` completions.
    """
    asked = chains(settings["prompts"], seed, "test", settings["share"], settings["longest"])
    policy, sft = base(settings, seed, folder)
    config = training_config(settings, seed, folder)
    run = Run.create(folder / "rl", config, command="burnish verify scalerl", resume=True)
    seed_everything(seed)
    number = settings["rl_steps"] * config.rl.prompts_per_step
    rows = [one.row(f"rl-{place}") for place, one in enumerate(chains(number, seed + 1, "train", settings["share"], settings["longest"]))]
    items = items_of(config, policy, load_rows(rows), config.rl.group_size)
    trainer = build_trainer(config, policy, items, [], run, Verifier(check, name="chain"))
    trainer.loop.eval_fn, trainer.loop.eval_steps = evaluator(policy, asked, settings, seed, folder / "rl"), settings["eval_every"]
    trainer.run()
    tokens = {int(row["step"]): float(row.get("compute/tokens", 0.0)) for row in run.metrics()}
    found = load_successes(folder / "rl")
    names = [f"held-out-{place}" for place in range(len(asked))]
    return {
        "parameters": parameters(policy),
        "sft": sft,
        "ceiling": ceiling(asked),
        "samples": settings["samples"],
        "compute": [0.0] + [tokens[step] * parameters(policy) for step in sorted(found) if step],
        "successes": [[round(one.items[name][0]) for name in names] for _, one in sorted(found.items())],
        "rewards": [round(float(row["reward"]), 4) for row in run.metrics() if "reward" in row],
    }


def base(settings: dict[str, Any], seed: int, folder: Path) -> tuple[Policy, dict[str, Any]]:
    """The fine-tuned policy, made once; with it how many steps it took and the pass rate that ended them."""
    place = folder / "base"
    if not (place / "sft.json").exists():
        policy = make_policy(settings["hidden"], seed)
        steps, rate = fine_tune(
            policy, fresh(folder), seed, settings["sft"] | {key: settings[key] for key in ("share", "longest", "prompts")}
        )
        save_model(policy.model, policy.tokenizer, place)
        atomic.write_text(place / "sft.json", f'{{"steps": {steps}, "pass_rate": {rate}}}\n')
    return Policy(*load_model(str(place))), json.loads((place / "sft.json").read_text(encoding="utf-8"))


def fresh(folder: Path) -> Path:
    """A run folder for the fine-tuning; a try that was killed is left behind under its number."""
    number = 0
    while (folder / f"sft-{number}").exists():
        number += 1
    return folder / f"sft-{number}"


def training_config(settings: dict[str, Any], seed: int, folder: Path) -> TrainConfig:
    """RL with the preset `scalerl` and its filter; its reward of 1 and 0 gives the advantages of +1 and -1, since they are normalised."""
    rl = {
        "steps": settings["rl_steps"],
        "learning_rate": settings["rl_rate"],
        "warmup": 0.05,
        "prompts_per_step": settings["rl_prompts"],
        "group_size": settings["group"],
        "max_new_tokens": settings["longest"] + 1,
        "objective": "scalerl",
        "engine_mode": "fast",
        "slots": settings["rl_prompts"] * settings["group"],
        "save_steps": 100,
        "save_total_limit": 1,
        "keep_rollouts": 0,
    }
    return build(TrainConfig, {"stage": "rl", "seed": seed, "output": str(folder / "rl"), "threads": 1, "rl": rl})


def evaluator(policy: Policy, asked: list[Chain], settings: dict[str, Any], seed: int, run: Path) -> Callable[[int], dict[str, float]]:
    """Held-out pass rates at temperature 1; each prompt's successes are kept in the run folder."""

    def measure(step: int) -> dict[str, float]:
        rates = pass_rates(policy, asked, settings["samples"], seed_for("scalerl evaluation", seed, step))
        right = np.rint(rates * settings["samples"]).astype(int)
        items = {f"held-out-{place}": (float(count), int(settings["samples"])) for place, count in enumerate(right)}
        write_successes(run, StepSuccesses(step, settings["samples"], items))
        return {"eval/success": float(rates.mean())}

    if not path_of(run, 0).exists():  # before RL
        measure(0)
    return measure
