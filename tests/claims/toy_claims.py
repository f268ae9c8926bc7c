"""A toy system with one claim, written as a user's file: two rates are tried on seed 9, `main` follows, `other` does not."""

from __future__ import annotations

from pathlib import Path

TEXT = """
import json, os, pathlib, subprocess, sys, time
from burnish.claims.harness.claim import Arm, Claim, Verdict, shared_of

HERE = pathlib.Path({here!r})
SETTINGS = json.loads((HERE / "settings.json").read_text())

def note(line):
    with open(HERE / "notes.txt", "a") as file:
        file.write(line + "\\n")

def arms(size):
    grid = [Arm(f"grid/{{rate}}", {{"rate": rate}}, seeds=(9,)) for rate in (1, 2)]
    return (Arm("main", {{}}, follows=("grid/1", "grid/2")), *grid, Arm("other", SETTINGS["other"]))

def seeds(size):
    return (0, 1) if size == "full" else (0,)

def settle(arm, results):
    return {{"rate": max(one["result"]["value"] for one in results)}}

def shared(seed, folder, size):
    note(f"shared {{seed}}")
    folder.joinpath("base.txt").write_text(str(seed))

def run(arm, seed, folder, size):
    note(f"{{arm.name}} {{seed}}")
    what = arm.settings.get("do")
    if what == "fail":
        raise RuntimeError("the moon was in the way")
    if what == "nan":
        return {{"value": float("nan")}}
    if what == "sleep":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(f"pid {{os.getpid()}}")
        note(f"pid {{child.pid}}")
        time.sleep(600)
    threads = os.environ["OMP_NUM_THREADS"]
    return {{"value": arm.settings.get("rate", 0), "base": (shared_of(folder) / "base.txt").read_text(), "threads": threads}}

def verdict(results, size):
    best = max(one["result"]["value"] for one in results)
    return Verdict(SETTINGS["status"], f"the best is {{best}}", SETTINGS.get("figures", {{}}))

def plot(results, verdict):
    return "<svg></svg>"

def table(results):
    return [{{"arm": one["arm"], "value": one["result"]["value"]}} for one in results]

claims = (
    Claim("toy.1", "a toy", "no paper", "Two is more than one.", "as it is", arms, seeds, run, verdict, plot, shared, None, settle, table),
)
"""


def write(folder: Path, **settings) -> str:
    """The toy's file in a folder of its own; settings: what it reads at each start."""
    import json

    (folder / "settings.json").write_text(json.dumps({"other": {}, "status": "reproduced"} | settings))
    path = folder / "toy.py"
    path.write_text(TEXT.format(here=str(folder)))
    return str(path)


def notes(folder: Path) -> list[str]:
    """What was run so far, in order."""
    path = folder / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []
