"""One run as a process of its own: `python -m benchmarks.overhead.side VARIANT with|without STEPS`."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from typing import Any

import torch
from benchmarks.overhead.variants import VARIANTS
from benchmarks.race import setup
from benchmarks.race.burnish_side import Ticks
from benchmarks.race.gate import Gate

from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.rl import build_trainer
from burnish.records import Item, Limits
from burnish.runs.config import build
from burnish.runs.folder import Run


def main() -> None:
    """Reports go to what was standard output; whatever the libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    name, which, steps = sys.argv[1:4]
    run(VARIANTS[name][which == "with"], int(steps), Gate(out=out), setup.CASES[sys.argv[4] if len(sys.argv) > 4 else "fixed"])


def run(fields: dict[str, Any], steps: int, gate: Gate, case: setup.Case) -> None:
    """One step for each "go"."""
    model, tokenizer = setup.make_model(case)
    policy = Policy(model, tokenizer)
    rl = {
        "steps": steps, "learning_rate": setup.LEARNING_RATE, "prompts_per_step": case.prompts, "group_size": case.group,
        "max_new_tokens": case.cap, "engine_mode": setup.ENGINE_MODE, "keep_rollouts": 0, "save_steps": None, **fields,
    }  # fmt: skip
    limits = Limits(max_new_tokens=case.cap)
    columns = {"horizon": 1, "answer": "1"}
    items = [Item(str(n), policy.encode(text), case.group, limits, columns=columns) for n, text in enumerate(setup.prompts())]
    with tempfile.TemporaryDirectory() as parent:
        config = build(TrainConfig, {"stage": "rl", "output": f"{parent}/run", "threads": 1, "rl": rl})
        trainer = build_trainer(config, policy, items, [], Run.create(f"{parent}/run", config), progress=Ticks(gate))
        scorer = next((one for one in trainer.queue.source.shapers if hasattr(one, "scorer")), None)
        if scorer is not None:
            scorer.scorer = gate.timed("scorer", scorer.scorer)
        gate.ready(parameters=policy.model.num_parameters())
        trainer.run()


if __name__ == "__main__":
    main()
