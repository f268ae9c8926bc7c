"""report.html: everything a run has to show, in one file that works offline and on a phone."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import burnish
from burnish.reports import samples as sampling
from burnish.reports import tables, words
from burnish.reports.curves import curves
from burnish.reports.headlines import headlines
from burnish.reports.run_files import RunFiles, finite, read_run
from burnish.reports.summary import Summary
from burnish.reports.timings import Timings, timings
from burnish.runs import atomic


def write_report(run_path: str | Path, output: str | Path | None = None) -> Path:
    """Writes `report.html` into the run folder (or to `output`) and returns its path.

    An unfinished or damaged run gets a report too, which says what is missing.
    Raises UserError where the path holds no run at all or cannot be written.
    """
    run = read_run(run_path)
    path = Path(output) if output is not None else run.path / "report.html"
    atomic.write_text(path, render(run))
    return path


def render(run: RunFiles) -> str:
    """The page. Autoescape is on: whatever a model, a data set or a config says is text; only our own drawings and files are markup."""
    found = Summary.from_dict(run.summary)
    plots, shown, spent = curves(run), sampling.samples(run), timings(run)
    arms = tables.arm_rows(found.arms)
    script = _file("report.js.j2")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False, lstrip_blocks=False
    )
    environment.filters |= {"number": words.number, "share": words.share, "seconds": words.seconds, "percent": _percent}
    environment.globals |= {"cell": tables.cell, "numeric": tables.right_aligned}
    page = environment.get_template("report.html.j2").render(
        name=words.safe(run.path.resolve().name),
        badges=_badges(run),
        started=words.safe(str(run.starts[0].get("time", ""))) if run.starts else "",
        headlines=headlines(run),
        summary=found,
        arms=arms,
        arms_drawn=list(zip(found.arms, arms)),
        arm_columns=[name for name in tables.columns_of(arms) if name not in ("model", "success [95 %]")],
        plots=plots,
        samples=shown,
        group_limit=sampling.GROUPS,
        timings=spent,
        colours=_colours(spent),
        memory=_memory(run),
        command=words.safe(run.command),
        resumed=max(0, len(run.starts) - 1),
        setting=_setting(run),
        config=words.safe(run.config_text),
        evals=[(words.safe(name), _flat(result)) for name, result in run.evals.items()],
        metrics=_metric_rows(run),
        problems=[words.safe(problem) for problem in run.problems],  # last: reading rollouts and drawing may have found more
        css=Markup(_file("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=burnish.__version__,
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _file(name: str) -> str:
    return (importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _percent(value: float) -> str:
    """A place or width in CSS, kept inside the track."""
    return f"{100 * min(1.0, max(0.0, value)):.2f}%"


def _badges(run: RunFiles) -> list[tuple[str, str]]:
    preset = run.setting("rl.objective") if run.stage == "rl" else None
    preset = preset.get("preset") if isinstance(preset, dict) else preset
    badges = [(run.stage.upper(), "")] if run.stage else []
    badges += [(words.safe(preset), "")] if isinstance(preset, str) else []
    total = run.total_steps
    if total and run.metrics:
        badges.append(("finished", "good") if run.steps >= total else (f"step {run.steps:,} of {total:,}", "bad"))
    seed = run.setting("seed")
    return badges + ([(f"seed {seed}", "")] if isinstance(seed, int) else [])


def _colours(spent: Timings | None) -> dict[str, str]:
    if spent is None:
        return {}
    *named, rest = spent.parts
    return {part.name: f"k{index % 8}" for index, part in enumerate(named)} | {rest.name: "k8"}


def _memory(run: RunFiles) -> str:
    steps, values = run.series("memory/peak_mb")
    if not values:
        return ""
    return f"peak {words.megabytes(max(values))} (first step {words.megabytes(values[0])}, step {steps[-1]} {words.megabytes(values[-1])})"


def _setting(run: RunFiles) -> list[dict[str, str]]:
    """What run.json says of the newest start, the command left out."""
    rows = []
    for key, value in run.info.items():
        if key == "command" or value is None:
            continue
        if isinstance(value, Mapping):
            rows += [{"what": words.safe(str(name)), "value": words.safe(str(inner))} for name, inner in value.items()]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append({"what": words.safe(key), "value": words.safe(text)})
    return rows


def _flat(result: Mapping[str, Any], prefix: str = "") -> list[dict[str, str]]:
    """The numbers and short texts of an evaluation file; long lists (one entry for each item) are only counted."""
    rows: list[dict[str, str]] = []
    for key, value in result.items():
        label = f"{prefix}{words.safe(str(key))}"
        if isinstance(value, Mapping) and "mean" in value and finite(value["mean"]):
            rows.append({"measure": label, "value": tables.cell(label, value)})
        elif isinstance(value, Mapping):
            rows += _flat(value, f"{label}.") if label.count(".") < 3 else []
        elif isinstance(value, list):
            rows.append({"measure": label, "value": f"{len(value):,} entries"})
        elif value is not None:
            rows.append({"measure": label, "value": words.clip(words.safe(tables.cell("", value)), 300)})
    return rows


def _metric_rows(run: RunFiles) -> list[dict[str, Any]]:
    names = sorted({name for row in run.metrics for name in row} - {"step"})
    rows = []
    for name in names:
        values = run.series(name)[1]
        if values:
            row = {"first": values[0], "last": values[-1], "lowest": min(values), "highest": max(values), "rows": len(values)}
            rows.append({"metric": words.safe(name), **row})
    return rows
