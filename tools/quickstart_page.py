"""Writes docs/quickstart.md from docs/quickstart/seed*.json (each a run's summary.json). `--check` fails where it is out of date."""

from __future__ import annotations

import json
import pathlib
import sys

from burnish.reports import tables
from burnish.reports.summary import Summary

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER, TARGET = ROOT / "docs" / "quickstart", ROOT / "docs" / "quickstart.md"

HEAD = """# The quickstart

`make run` (or `burnish quickstart --seed 0 1 2`) makes a small Qwen3-type model with random weights, teaches it to sort letters from the
demonstrations of a careless teacher (SFT), and improves it with a verifier (RL). Beside the RL arm run two controls: the same RL with
rewards thrown by a coin, and SFT continued for RL's FLOPs. All are measured on the same held-out problems with the same seeds.

How to read it: most demonstrations hold a slip, so sampled success after SFT is about the teacher's, and more imitation stays near it; a
verifier removes the slips, and that is most of RL's gain in *sampled* success. Greedy success, in the notes, changes far less.
Random rewards do harm: with nothing to learn from, the updates are noise.

The tables are written from the result files in `docs/quickstart/` by `python tools/quickstart_page.py`.
"""


def render() -> str:
    """The whole page."""
    out = [HEAD]
    for path in sorted(FOLDER.glob("seed*.json")):
        summary = Summary.from_dict(json.loads(path.read_text(encoding="utf-8")))
        out += [f"## {summary.title}", "", tables.markdown(tables.arm_rows(summary.arms)), ""]
        out += [tables.markdown(tables.check_rows(summary.checks)), "", f"The whole run took {summary.seconds:.0f} s.", ""]
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
