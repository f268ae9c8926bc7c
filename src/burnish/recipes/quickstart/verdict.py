"""What the quickstart promises, checked on its own results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from burnish.recipes.quickstart.arms import Measured
from burnish.recipes.quickstart.settings import QuickstartConfig
from burnish.reports.summary import Arm, Check, Summary
from burnish.tasks.evaluation import EvalResult, paired_difference
from burnish.tasks.task import constant_baseline

ORDER = ("base", "SFT", "more SFT", "random rewards", "RL")


def summarise(config: QuickstartConfig, found: Mapping[str, Measured], same_ids: bool, seconds: float, paths: Mapping[str, str]) -> Summary:
    """Arms with 95 % intervals, paired differences to SFT, and the checks."""
    results = {name: EvalResult.from_json(arm.sampled) for name, arm in found.items()}
    arms = [_arm(found[name], results[name], results["SFT"]) for name in ORDER]
    notes = (
        "Success is measured on the same held-out problems with the same seeds, sampled at temperature 1; "
        f"{config.slips:.0%} of the demonstrations hold a slip, which imitation learns with the skill and a verifier does not reward.",
        f"Folders: {', '.join(f'{name}: {path}' for name, path in paths.items())}.",
    )
    checks = tuple(_checks(config, results, same_ids, Path(config.output)))
    return Summary(tuple(arms), checks, f"Sorting {config.length} letters, seed {config.seed}", notes, seconds)


def _arm(arm: Measured, result: EvalResult, sft: EvalResult) -> Arm:
    found = result.success()
    greedy = EvalResult.from_json(arm.greedy).success().mean
    note = f"greedy {greedy:.3f}"
    if arm.name not in ("base", "SFT"):
        difference = paired_difference(sft, result)
        note += f"; {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] against SFT"
    return Arm(arm.name, found.mean, found.low, found.high, len(result.items), arm.seconds, arm.flops, note)


def _checks(config: QuickstartConfig, results: Mapping[str, EvalResult], same_ids: bool, folder: Path) -> list[Check]:
    sft, rl, control = (results[name].success().mean for name in ("SFT", "RL", "random rewards"))
    constant = constant_baseline(config.task, min(config.held_out, 1000), config.seed)
    shared, total = overlap(folder)
    return [
        Check("RL improves on SFT", rl - sft >= 0.30, "at least +0.30", f"{rl - sft:+.3f}"),
        Check("random rewards do not", control <= sft + 0.05, "at most +0.05", f"{control - sft:+.3f}"),
        Check("SFT leaves room", 0.10 <= sft <= 0.50, "0.10 to 0.50", f"{sft:.3f}"),
        Check("no constant answer does it", constant.success < 0.05, "under 0.05", f"{constant.success:.3f} ({constant.answer!r})"),
        Check("there are many problems", config.task.space() >= 100_000, "at least 100,000", f"{config.task.space():,}"),
        Check(
            "held-out problems are new", shared == 0 and total >= 1000, "0 of at least 1,000 in a training file", f"{shared} of {total:,}"
        ),
        Check("transformers decodes the same ids", same_ids, "32 of 32 greedy completions", "yes" if same_ids else "no"),
    ]


def overlap(folder: Path) -> tuple[int, int]:
    """(held-out prompts that occur in a training file, held-out prompts), read back from the files that were trained on."""
    prompts = {}
    for name in ("demonstrations", "problems", "held_out"):
        lines = (folder / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        prompts[name] = {json.loads(line)["prompt"] for line in lines}
    return len(prompts["held_out"] & (prompts["demonstrations"] | prompts["problems"])), len(prompts["held_out"])
