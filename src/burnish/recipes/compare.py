"""`burnish compare`: two settings trained on the same seeds, data order and held-out items, and compared at equal compute."""

from __future__ import annotations

import dataclasses
import difflib
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from burnish.recipes.config import RLConfig, TrainConfig
from burnish.recipes.refusals import refuse_impossible
from burnish.reports.compare.arm import Arm, read_arm
from burnish.reports.compare.comparison import Comparison, compare_arms
from burnish.reports.compare.page import write_comparison
from burnish.runs import atomic, progress
from burnish.runs.config import load_config, to_yaml
from burnish.runs.errors import UserError, did_you_mean
from burnish.runs.folder import Run
from burnish.runs.jobs import Job, run_jobs, tail

METRICS = {"rl": ("eval/success", "eval/reward"), "sft": ("eval_loss",)}
LOWER = ("loss",)
SFT_NAMES = ("loss", "mean_token_accuracy", "entropy")
RL_NAMES = (
    *("reward", "reward_std", "frac_reward_zero_std", "success"),
    *("loss", "kl", "entropy", "grad_norm", "objective/surrogate", "sampling/surprise"),
    *(f"completions/{name}" for name in ("mean_length", "min_length", "max_length", "clipped_ratio")),
    *(f"rollouts/{name}" for name in ("kept", "invalid", "drawn", "trained")),
    *(f"policy_kl/{kind}" for kind in ("k1", "k2", "k3")),
)
"""What every RL run logs of its steps and that two arms may be compared by."""
FAMILIES = ("rewards", "filter", "ratio", "clip_ratio", "advantage", "correction", "reference_kl", "critic", "value", "sampling")
"""Names before a slash under which RL runs log what depends on their parts."""
OWN_METRICS = ("shapers", "filters", "temperature", "thinker", "curriculum")
"""Fields of rl whose parts may log names of their own."""


@dataclasses.dataclass(frozen=True)
class Request:
    """a, b: YAML files, folders of finished runs, or (b only) changes to A such as "rl.objective=dapo". overrides: flags for both.

    seeds: how many. first_a, first_b: the arms' first seeds; the same by default, so that pairs share data order and evaluation.
    metric: None for the first of METRICS that the runs have. level: of the interval. effect: difference worth telling apart.
    """

    a: str
    b: str
    seeds: int = 3
    first_a: int = 0
    first_b: int | None = None
    output: str = "runs/compare"
    metric: str | None = None
    level: float = 0.95
    effect: float | None = None
    workers: int = 2
    overrides: tuple[str, ...] = ()


def compare(request: Request, silent: bool = True) -> tuple[Comparison, Path]:
    """Trains what is missing, compares, and writes comparison.html beside the runs. Returns the comparison and the page's path.

    Runs that are finished are not run again, unfinished ones are resumed. Raises UserError for settings that cannot work, before
    anything is trained, and for a run that failed, with the last line it printed.
    """
    refuse_request(request)
    atomic.refuse_unwritable(request.output)
    folders: dict[str, list[Path]] = {}
    planned: list[tuple[str, Path, TrainConfig]] = []
    stage, base = "rl", None
    for name, what, first in (("A", request.a, request.first_a), ("B", request.b, request.first_b)):
        if Path(what).is_dir():
            folders[name] = finished_runs(Path(what))
            continue
        config = arm_config(name, what, base, request)
        base, stage = base or config, config.stage
        refuse_impossible(config, False, None)
        _refuse_unmeasured(name, config)
        if request.metric:
            refuse_unknown_metric(request.metric, config)
        seeds = range(request.first_a if first is None else first, (request.first_a if first is None else first) + request.seeds)
        folders[name] = [Path(request.output) / name.lower() / f"seed{seed}" for seed in seeds]
        planned += [(name, folder, config.model_copy(update={"seed": seed})) for folder, seed in zip(folders[name], seeds)]
    if request.metric:
        for name in {"A", "B"} - {name for name, *_ in planned}:
            read_arm(name, folders[name], request.metric)  # before the other arm is trained
    train_missing(planned, Path(request.output), request.workers, silent)
    metric = request.metric or _metric(folders["A"][0], [*METRICS[stage], *(name for names in METRICS.values() for name in names)])
    arms: tuple[Arm, Arm] = (read_arm("A", folders["A"], metric), read_arm("B", folders["B"], metric))
    found = compare_arms(*arms, metric, request.level, request.effect, metric.endswith(LOWER))
    return found, write_comparison(request.output, found, arms)


def refuse_request(request: Request) -> None:
    """Raises UserError for numbers that make no comparison."""
    if request.seeds < 1 or request.workers < 1:
        raise UserError("burnish compare: --seeds and --workers must be at least 1")
    if not 0 < request.level < 1:
        raise UserError(f"burnish compare: --level is {request.level}; it must lie between 0 and 1, such as 0.95")
    if request.effect is not None and not 0 < request.effect < math.inf:
        raise UserError(f"burnish compare: --effect is {request.effect}; it must be a number above 0, in units of the metric")


def refuse_unknown_metric(metric: str, config: TrainConfig) -> None:
    """Raises UserError for a metric that no run of this configuration will log.

    A name family/name that is like none of the known ones may come from a part that logs names of its own, where the run has such parts.
    """
    known = metric_names(config)
    if metric in known:
        return
    rl, untouched = config.rl, RLConfig()
    own = config.stage == "rl" and any(getattr(rl, field) != getattr(untouched, field) for field in OWN_METRICS)
    family = metric.partition("/")[0] if "/" in metric else ""
    if config.stage == "rl" and (family in FAMILIES or (own and family and not difflib.get_close_matches(metric, known, 1, 0.7))):
        return
    raise UserError(f"burnish compare: --metric {metric!r} will not be logged by these runs; {did_you_mean(metric, known)}")


def metric_names(config: TrainConfig) -> list[str]:
    """What a run of this configuration logs: its evaluation's names first, then the training steps' own."""
    if config.stage == "sft":
        return [f"{prefix}{name}" for prefix in ("eval_", "") for name in SFT_NAMES]
    found = [f"eval/{name}{bound}" for name in ("success", "reward") for bound in ("", "_low", "_high")]
    found += [f"eval/pass@{config.eval.samples}"] if config.eval.samples > 1 else []
    return [*found, "eval/truncated", "eval/invalid", *RL_NAMES]


def arm_config(name: str, what: str, base: TrainConfig | None, request: Request) -> TrainConfig:
    """The configuration of an arm, from a YAML file or from changes to the other arm's."""
    if "=" in what and not Path(what).exists():
        if base is None:
            raise UserError(f"burnish compare: {name} is {what!r}, changes to the other arm's file, so that must be a YAML file, and A")
        flags = [f"--{word}" for word in shlex.split(what)]
        return load_config(TrainConfig, request.a, [*request.overrides, *flags])
    if not Path(what).exists():
        raise UserError(f"burnish compare: there is no file or run folder {what}; give a YAML file, a folder of runs, or changes key=value")
    return load_config(TrainConfig, what, request.overrides)


def finished_runs(folder: Path) -> list[Path]:
    """The folder itself where it is a run, else every run in it."""
    if (folder / "metrics.jsonl").exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/metrics.jsonl"))
    if not found:
        raise UserError(f"{folder} holds no run (no metrics.jsonl in it or one folder below)")
    return found


def train_missing(planned: Sequence[tuple[str, Path, TrainConfig]], output: Path, workers: int, silent: bool = True) -> None:
    """Trains every planned run that is not finished, each in a one-thread process of its own."""
    jobs = []
    for name, folder, config in planned:
        config = config.model_copy(update={"output": str(folder), "threads": 1})
        started = Run.check(folder, config, resume=True)
        if started and is_finished(folder, config):
            continue
        path = output / "configs" / f"{name.lower()}-{folder.name}.yaml"
        with atomic.explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, to_yaml(config))
        command = (sys.executable, "-m", "burnish", "train", str(path), "--json", *(["--resume"] if started else []))
        jobs.append(Job(f"{name}-{folder.name}", command, output / "logs" / f"{name.lower()}-{folder.name}.log"))
    with progress.bar(len(jobs), "runs", silent=silent) as bar:
        counted = iter(range(1, len(jobs) + 1))
        codes = run_jobs(jobs, workers, lambda job, code: bar.update(next(counted), job.name))
    if failed := [job for job in jobs if codes[job.name]]:
        said = tail(failed[0].log) or "it said nothing"
        raise UserError(f"{len(failed)} of {len(jobs)} runs failed; the first, {failed[0].name}: {said} (its log: {failed[0].log})")


def is_finished(folder: Path, config: TrainConfig) -> bool:
    """True where the run's last checkpoint is that of its last step."""
    from burnish.runs import checkpoints

    newest = checkpoints.newest(folder)
    head = checkpoints.head(newest) if newest is not None else None
    last = Run(folder).last_step
    return bool(head and newest is not None and last == head.get("total_steps") and newest.name == f"checkpoint-{last}")


def _refuse_unmeasured(name: str, config: TrainConfig) -> None:
    every = config.eval.steps if config.stage == "rl" else config.sft.eval_steps
    if every is None:
        field = "eval.steps (and eval.rows or eval.path)" if config.stage == "rl" else "sft.eval_steps (and eval.rows or eval.path)"
        raise UserError(f"burnish compare: {name} is never evaluated; set {field}")


def _metric(folder: Path, names: Sequence[str]) -> str:
    rows = Run(folder).metrics()
    return next((name for name in names if any(name in row for row in rows)), names[0])
