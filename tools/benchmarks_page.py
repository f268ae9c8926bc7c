"""Writes docs/benchmarks/README.md from docs/benchmarks/*.json. `--check` fails where it is out of date."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "benchmarks"
TARGET = FOLDER / "README.md"
HEAD = """# Benchmarks

`make bench` runs them. The tables are written from the result files beside this page by `python tools/benchmarks_page.py`.
"""
RACE = """## GRPO steps against TRL

Both trainers get the same Qwen3-type model with random weights, prompts of 96 tokens, 8 prompts x 8 completions, reward, objective and
optimiser. Each runs in a process of its own with one thread; they take turns step by step. CPU seconds of a step, medians; the ratio is
the median of the paired steps' ratios (below 1: burnish needs less), with a 95 % bootstrap interval. Before the clock runs, both
compute the first step of one frozen batch of completions: loss and gradient must agree to 1e-5.
"""
MODES = {"fast": ", its fastest, as TRL has its own; a CPU's default is exact, in which a token's bits do not depend on its neighbours"}
PARTS = {"cpu": "whole step", "generate": "generation", "rest": "rest of the step"}


def table(rows: list[list[str]]) -> list[str]:
    """Markdown; the first row is the head."""
    return ["| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def race(data: dict[str, Any]) -> list[str]:
    """The race's tables, settings and agreement."""
    out = [RACE]
    for found in data["cases"].values():
        r = found["ratios"]
        lengths = f"mean length {r['mean_length_burnish']:.1f} (burnish) and {r['mean_length_trl']:.1f} (TRL)"
        out += [f"### {found['case']}", "", f"{len(found['steps']['trl'])} paired steps; {lengths}.", ""]
        rows = [["", "burnish, s", "TRL, s", "ratio", "95 % interval"]]
        for part, label in PARTS.items():
            x = r[part]
            rows.append([label, f"{x['burnish_s']:.3f}", f"{x['trl_s']:.3f}", f"{x['ratio']:.3f}", f"{x['low']:.3f} to {x['high']:.3f}"])
        loss, gradient = (found["agreement"][f"{name}_difference"] for name in ("loss", "gradient"))
        out += [*table(rows), "", f"First step: losses differ by {loss:.1e}, gradients by {gradient:.1e} of their norm.", ""]
    first = next(iter(data["cases"].values()))
    settings = ", ".join(f"{name}={value}" for name, value in first["trl_settings"].items())
    mode = data["both"]["burnish_engine_mode"]
    out += [f"burnish ran with rl.engine_mode={mode}{MODES.get(mode, '')}.", ""]
    return [*out, f"TRL's settings in the first case: {settings}.", ""]


def memory(data: dict[str, Any]) -> list[str]:
    """The log-prob pass."""
    m = data["memory"]
    sizes = f"{m['tokens']} tokens, hidden {m['hidden']}, vocabulary {m['vocabulary']}, float32, forward and backward"
    peak = f"{m['peak_bytes'] / 2**20:.0f} MiB above parameters and their gradients, {m['share']:.1%} of the full logits tensor"
    return ["## Memory of the log-prob pass", "", f"{sizes}: peak {peak}.", ""]


def engine(data: dict[str, Any]) -> list[str]:
    """Decoding against transformers.generate."""
    rows = [["case", "engine mode", "burnish, s", "transformers, s", "times as fast", "lowest round"]]
    for row in data["engine"]:
        mode = row.get("mode", data["about"].get("mode", ""))
        rows.append([row["case"], mode, *(str(row[key]) for key in ("burnish_s", "transformers_s", "ratio", "lowest"))])
    return ["## Decoding against transformers.generate", "", "CPU seconds with prefill, one thread, 64 new tokens.", "", *table(rows), ""]


def gpu_step(data: dict[str, Any]) -> list[str]:
    """One step of each kind on a GPU."""
    rows = [["step", "seconds", "tokens", "tokens a second", "peak memory, GiB"]]
    for row in data["gpu_step"]:
        figures = (f"{row['seconds']:.2f}", f"{row['tokens']:.0f}", f"{row['tokens_per_second']:.0f}")
        rows.append([row["step"], *figures, f"{row['peak_memory_bytes'] / 2**30:.1f}"])
    first = data["gpu_step"][0]
    what = f"{first['parameters'] / 1e9:.2f}B parameters, Qwen3 type, random weights, {first['dtype']}, on {data['device']}"
    return ["## One step on a GPU", "", f"{what}. Of the GRPO step the completions' tokens count.", "", *table(rows), ""]


KINDS = {"cases": race, "memory": memory, "engine": engine, "gpu_step": gpu_step}
"""A key of a result file -> what writes its section."""


def render() -> str:
    """The whole page."""
    out = [HEAD]
    for path in sorted(FOLDER.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        out += next((kind(data) for name, kind in KINDS.items() if name in data), [])
        p = data["provenance"]
        versions = ", ".join(f"{name} {version}" for name, version in p["versions"].items() if version)
        load = f", load {p['load_at_start']} at the start" if p.get("load_at_start") is not None else ""
        out += [f"`{path.name}`: {p['date']}, {p['processor']}, {p['processors']} processors{load}; {versions}.", ""]
    return "\n".join(out).rstrip() + "\n"


def main() -> int:
    """Writes or checks."""
    page = render()
    if "--check" in sys.argv:
        return 0 if TARGET.exists() and TARGET.read_text(encoding="utf-8") == page else 1
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
