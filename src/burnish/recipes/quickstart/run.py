"""Runs the quickstart: data, base model, SFT, then RL beside its two controls, and what came of it."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import time
from pathlib import Path

from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes.quickstart.arms import Measured, budgets, run_arm, same_ids_as_transformers
from burnish.recipes.quickstart.settings import QuickstartConfig
from burnish.recipes.quickstart.verdict import summarise
from burnish.reports.report import write_report
from burnish.reports.summary import Summary
from burnish.runs import atomic
from burnish.runs.errors import UserError
from burnish.tasks.demonstrations import careless
from burnish.tasks.evaluation import EvalResult
from burnish.tasks.task import alphabet


def quickstart(config: QuickstartConfig, silent: bool = True, say=lambda line: None) -> tuple[Path, Summary]:
    """Everything, from nothing but the seed. Returns the run folder (with report.html) and the summary.

    say: called with a line of text as each stage begins. Raises UserError where the folder holds something already.
    """
    start = time.perf_counter()
    folder = free_folder(config)
    config = config.model_copy(update={"output": str(folder)})
    command = f"burnish quickstart --seed {config.seed}"
    say(f"Run folder: {folder}")
    write_data(config, folder)
    base = make_base(config, folder)
    sft_flops, rl_flops, more_steps = budgets(config, base)
    paths = {name: str(folder / name) for name in ("base", "sft", "random", "more-sft")}
    data = {name: str(folder / "data" / f"{name}.jsonl") for name in ("demonstrations", "problems", "held_out")}
    say(f"SFT: {config.sft_steps} steps on demonstrations of a careless teacher ({sum(p.numel() for p in base.parameters()):,} parameters)")
    training = config.sft(paths["sft"], data["demonstrations"], paths["base"], config.sft_steps)
    sft = run_arm("SFT", config, training, paths["base"], sft_flops, command, silent)
    jobs = [
        ("RL", config.rl(str(folder), data["problems"], sft.model, [config.reward], data["held_out"]), sft.model, rl_flops, silent),
        (
            "random rewards",
            config.rl(paths["random"], data["problems"], sft.model, [config.control], data["held_out"]),
            sft.model,
            rl_flops,
            True,
        ),
        ("more SFT", config.sft(paths["more-sft"], data["demonstrations"], sft.model, more_steps), sft.model, rl_flops, True),
        ("base", None, paths["base"], 0.0, True),
    ]
    say(f"RL: {config.rl_steps} steps; beside it the same with random rewards, and SFT continued for RL's FLOPs ({more_steps} steps)")
    found = {"SFT": sft} | {arm.name: arm for arm in in_parallel(jobs, config, command)}
    write_evaluations(folder, found)
    same = same_ids_as_transformers(config, found["RL"].model)
    summary = summarise(config, found, same, time.perf_counter() - start, paths)
    summary.write(folder)
    write_report(folder)
    return folder, summary


def free_folder(config: QuickstartConfig) -> Path:
    """The folder asked for, or the first free one of runs/quickstart-seed0, runs/quickstart-seed0-2 ..."""
    if config.output:
        path = Path(config.output)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path} is there already; choose another folder (--output)")
        return path
    stem = Path("runs") / f"quickstart-seed{config.seed}"
    number = 1
    while (path := stem if number == 1 else stem.with_name(f"{stem.name}-{number}")).exists():
        number += 1
    return path


def write_data(config: QuickstartConfig, folder: Path) -> None:
    """Three JSONL files: demonstrations (with the teacher's answers), problems (for RL) and held-out problems."""
    with atomic.explained(folder):
        (folder / "data").mkdir(parents=True, exist_ok=True)
    train = config.task.items(config.demonstrations, config.seed, "train")
    test = config.task.items(config.held_out, config.seed, "test")
    shared = {problem.prompt for problem in train} & {problem.prompt for problem in test}
    if shared:
        raise RuntimeError(f"{len(shared)} held-out prompts are in the training set")
    rows = {
        "demonstrations": [problem.row() for problem in careless(train, config.slips, config.seed)],
        "problems": [problem.row() for problem in train],
        "held_out": [problem.row() for problem in test],
    }
    for name, members in rows.items():
        atomic.write_text(folder / "data" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in members))


def make_base(config: QuickstartConfig, folder: Path):
    """A Qwen3-type model with random weights and a tokenizer of single characters, saved as any other model."""
    vocabulary = tokenizer.characters(alphabet(config.task, 2000))
    model = tiny.make(
        "qwen3", vocabulary, hidden=config.hidden, layers=config.layers, heads=4, kv_heads=2, max_length=64, seed=config.seed
    )  # fmt: skip
    save_model(model, vocabulary, folder / "base")
    return model


def in_parallel(jobs, config: QuickstartConfig, command: str) -> list[Measured]:
    """Arms in processes of their own, `config.workers` at once; results in the order of the jobs."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(config.workers, mp_context=context) as pool:
        futures = [
            pool.submit(run_arm, name, config, training, model, flops, command, silent) for name, training, model, flops, silent in jobs
        ]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_evaluations(folder: Path, found: dict[str, Measured]) -> None:
    """`evals/<arm>.json`: every held-out completion of every arm; the report draws base and SFT as lines."""
    with atomic.explained(folder):
        (folder / "evals").mkdir(exist_ok=True)
    for name, arm in found.items():
        stem = name.lower().replace(" ", "-")
        EvalResult.from_json(arm.sampled).save(folder / "evals" / f"{stem}.json")
        EvalResult.from_json(arm.greedy).save(folder / "evals" / f"{stem}-greedy.json")
