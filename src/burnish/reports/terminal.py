"""The headline numbers of a run in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from burnish.reports import tables, words
from burnish.reports.headlines import headlines
from burnish.reports.run_files import RunFiles, read_run
from burnish.reports.summary import Summary
from burnish.reports.timings import timings


def summary(run: RunFiles | str | Path, file: IO[str] | None = None) -> None:
    """Prints the headline numbers, the arms of an experiment, where the time went and what is missing.

    Rich in a terminal, plain when piped.

    Raises UserError where the path holds no run.
    """
    run = run if isinstance(run, RunFiles) else read_run(run)
    out = file or sys.stdout
    rows = [line.row() for line in headlines(run)]
    if rows:
        filled = [name for name in rows[0] if any(row[name] is not None for row in rows)]
        tables.show(rows, title=f"{run.stage.upper() or 'Run'} · {run.path}", columns=filled, file=file)
    else:
        out.write(f"{run.path}: no numbers yet\n")
    found = Summary.from_dict(run.summary)
    if found.arms:
        out.write("\n")
        tables.show(tables.arm_rows(found.arms), title=found.title or "Held-out success", file=file)
    if found.checks:
        out.write("\n")
        tables.show(tables.check_rows(found.checks), file=file)
    spent = timings(run)
    if spent:
        parts = ", ".join(f"{part.label} {words.share(part.share)}" for part in spent.parts)
        out.write(f"\nTime of a step: {parts}\n")
    for problem in run.problems:
        out.write(f"Note: {words.safe(problem)}\n")
