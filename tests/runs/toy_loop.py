"""A small run with everything the loop carries: two optimisers at 5:1, averages, schedules, a snapshot, parts, evaluation.

As a script: `toy_loop.py drive FOLDER KILLS SEED` starts the run in forked children and kills them with SIGKILL at random moments,
then lets one finish; prints {"kills": ..., "in_checkpoint": ...}. `toy_loop.py full FOLDER`: runs under file-size limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from burnish.runs import checkpoints, seeds
from burnish.runs.folder import Run
from burnish.runs.loop import Loop, LoopResult, Mover, ParamGroup

CONFIG = {"seed": 3, "lr": 0.01, "save_total_limit": 2}
STEPS = 40


class Part:
    """State of every kind: counters, tensors, arrays, a generator, integer keys, NaN."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(5)
        self.counts: dict[int, float] = {0: float("nan")}
        self.mean = torch.zeros(2, dtype=torch.float64)

    def draw(self) -> torch.Tensor:
        x = torch.from_numpy(self.generator.normal(size=(4, 6))).float()
        self.counts[len(self.counts)] = float(x.sum())
        self.mean += x.double()[0, :2]
        return x

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.bit_generator.state, "counts": self.counts, "mean": self.mean, "last": np.float32(self.mean[0])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.bit_generator.state = state["generator"]
        self.counts, self.mean = state["counts"], state["mean"]
        assert state["last"] == np.float32(self.mean[0])


def toy(folder: Path | Run, resume: bool = False, pause: float = 0.0, **options: Any) -> tuple[Loop, LoopResult]:
    """Runs or resumes; the same arguments give the same bits."""
    torch.set_num_threads(1)
    seeds.seed_everything(3)
    a = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))
    b = nn.Linear(6, 3, dtype=torch.bfloat16)
    adam = torch.optim.AdamW(a.parameters(), lr=0.01, amsgrad=True)
    sgd = torch.optim.SGD(b.parameters(), lr=0.05, momentum=0.9)
    groups = {
        "a": ParamGroup(a, adam, schedule=lambda k: 1 / (1 + k / 10), average=0.9, max_grad_norm=1.0),
        "b": ParamGroup(b, sgd, schedule=torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 10), average=0.5),
    }
    part = Part()
    config = options.pop("config", CONFIG)
    run = folder if isinstance(folder, Run) else Run.create(folder, config, "toy", resume=resume)

    def evaluate(step: int) -> dict[str, float]:
        noise = float(torch.randn(1))  # must not disturb the run
        return {"eval/score": float(a[0].weight.detach().sum()) + 0 * noise, "eval/step": step}

    def save_model(path: Path) -> None:
        torch.rand(3)
        save_file({key: value.contiguous() for key, value in a.state_dict().items()}, path / "model.safetensors")
        (path / "big").write_bytes(b"x" * 300_000)

    def step_fn(step: int, mover: Mover) -> dict[str, Any]:
        time.sleep(pause)
        if step == 5:
            loop.snapshot("five")
        if step == 17:
            loop.reset("five")
        for _ in range(1 + step % 2):
            with loop.timer("forward"):
                x = part.draw() + np.random.normal() + random.random()
                loss = ((a(x) - b(x.bfloat16()).float()) ** 2).mean()
            loss.backward()
            mover()
        run.save_rollouts(step, [{"step": step, "x": float(x[0, 0])}])
        return {"loss": loss, "odd": float("nan") if step % 2 else float("inf"), "eps": np.float32(0.1)}

    loop = Loop(
        run, groups, {"part": part, "stateless": object()},
        **{
            "total_steps": STEPS, "save_steps": 3, "save_total_limit": 2, "rule": lambda i: {"a"} if i % 6 < 5 else {"b"},
            "save_model": save_model, "eval_fn": evaluate, "eval_steps": 4, "metric_for_best": "eval/score", **options,
        },
    )  # fmt: skip
    return loop, loop.run(step_fn)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must be equal, to the bit."""
    run = Run(folder)
    rows = [{k: repr(v) for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in run.metrics()]
    names = sorted(path.name for path in folder.iterdir())
    steps = checkpoints.steps(folder)
    wanted = ("state.json", "state.safetensors", "model.safetensors")
    states = {step: [(checkpoints.path_of(folder, step) / name).read_bytes() for name in wanted] for step in steps}
    return {"rows": rows, "names": names, "states": states, "rollouts": {s: run.rollouts(s) for s in run.rollout_steps()}}


def drive(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kills until `kills` children died, then lets one finish."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as warm:  # imports everything once, so that children start in the run itself
        toy(Path(warm), total_steps=1)
    dice = random.Random(seed)
    done = inside = 0
    while True:
        child = os.fork()
        if child == 0:
            try:
                toy(folder, resume=True, pause=0.01)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if done < kills:
            time.sleep(dice.uniform(0.01, 0.1))
            if done % 2:  # aim at a checkpoint write
                end = time.monotonic() + 2
                while time.monotonic() < end and not list(folder.glob("tmp-checkpoint-*")) and os.waitpid(child, os.WNOHANG) == (0, 0):
                    time.sleep(0.0002)
                time.sleep(dice.uniform(0, 0.004))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            status = os.waitpid(child, 0)[1]
        except ChildProcessError:
            status = 0
        if os.WIFSIGNALED(status):
            done += 1
            inside += bool(list(folder.glob("tmp-*")))
        elif os.WEXITSTATUS(status):
            raise SystemExit(1)
        else:
            return {"kills": done, "in_checkpoint": inside}


def full(folder: Path) -> dict[str, str]:
    """Runs under file-size limits, each in a forked child; gives what each raised."""
    torch.set_num_threads(1)
    out = {}
    for limit, options in ((600, {}), (9_000, {"save_model": None}), (200_000, {})):
        run = Run.create(folder / str(limit), CONFIG)  # before the limit: run.json is larger than the smallest one
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                toy(run, save_steps=2, eval_steps=40, **options)
            except BaseException as error:
                os.write(send, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
        os.close(send)
        os.waitpid(child, 0)
        out[str(limit)] = os.read(receive, 10_000).decode()
    return out


if __name__ == "__main__" and sys.argv[1] == "full":
    print(json.dumps(full(Path(sys.argv[2]))))
if __name__ == "__main__" and sys.argv[1] == "drive":
    print(json.dumps(drive(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
