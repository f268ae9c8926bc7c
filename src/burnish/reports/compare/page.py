"""comparison.html, comparison.json and the plots: what a comparison leaves behind for people and for machines."""

from __future__ import annotations

import importlib.resources
import json
import math
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

import burnish
from burnish.reports import tables, words
from burnish.reports.compare.arm import Arm
from burnish.reports.compare.comparison import Comparison
from burnish.reports.curves import for_page
from burnish.runs import atomic, plots

LABELS = {"flops": "FLOPs", "tokens": "tokens", "seconds": "seconds"}
POINTS = 60


def result_rows(found: Comparison) -> list[dict[str, object]]:
    """One row for each seed, and the means."""
    names = {"A": found.seeds_a, "B": found.seeds_b}
    if found.paired:
        rows = [{"seed": str(seed), "A": a, "B": b, "A - B": a - b} for seed, a, b in zip(found.seeds_a, found.a, found.b)]
        mean = {"seed": "mean", "A": float(np.mean(found.a)), "B": float(np.mean(found.b)), "A - B": found.difference.mean}
        return [*rows, mean]
    values = {"A": found.a, "B": found.b}
    rows = [{"seed": str(seed), "arm": arm, found.metric: value} for arm in names for seed, value in zip(names[arm], values[arm])]
    return [*rows, *({"seed": "mean", "arm": arm, found.metric: float(np.mean(values[arm]))} for arm in names)]


def curve_plots(found: Comparison, arms: tuple[Arm, Arm]) -> dict[str, str]:
    """SVG by axis: each arm's mean over its seeds, a band from its lowest to its highest run, up to where every run went."""
    out = {}
    for axis, label in LABELS.items():
        if not all(axis in curve.x for arm in arms for curve in arm.curves):
            continue
        series, bands = {}, {}
        for arm in arms:
            start = max(float(curve.x[axis][0]) for curve in arm.curves)
            places = np.linspace(start, max(arm.end(axis), start), POINTS)
            values = np.array([[curve.at(axis, place) for place in places] for curve in arm.curves])
            series[arm.name] = (places.tolist(), values.mean(0).tolist())
            bands[arm.name] = (values.min(0).tolist(), values.max(0).tolist())
        title = f"{found.metric} against {label}: mean and range over seeds"
        out[axis] = plots.line_plot(series, title, label, found.metric, bands)
    return out


def write_comparison(folder: str | Path, found: Comparison, arms: tuple[Arm, Arm]) -> Path:
    """Writes comparison.json, curves-*.svg and comparison.html; returns the page."""
    folder = Path(folder)
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    runs = {arm.name: [curve.path for curve in arm.curves] for arm in arms}
    text = json.dumps(_strict(found.to_dict() | {"runs": runs}), indent=1, allow_nan=False)
    atomic.write_text(folder / "comparison.json", text + "\n")
    drawn = curve_plots(found, arms)
    for axis, svg in drawn.items():
        atomic.write_text(folder / f"curves-{axis}.svg", svg)
    template = (importlib.resources.files("burnish.reports") / "templates" / "comparison.html.j2").read_text(encoding="utf-8")
    css = (importlib.resources.files("burnish.reports") / "templates" / "report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {"cell": tables.cell}
    rows = result_rows(found)
    page = environment.from_string(template).render(
        sentence=found.sentence(),
        metric=found.metric,
        budget=f"{found.budget:.4g} {LABELS[found.axis]}",
        rows=rows,
        columns=tables.columns_of(rows),
        changes=[words.safe(change) for change in found.changes],
        plots=[for_page(svg, f"plot{place}-") for place, svg in enumerate(drawn.values())],
        runs=[(name, words.safe(path)) for name, paths in runs.items() for path in paths],
        css=Markup(css),
        version=burnish.__version__,
    )
    atomic.write_text(folder / "comparison.html", page)
    return folder / "comparison.html"


def _strict(value):
    """NaN as None: strict JSON."""
    if isinstance(value, dict):
        return {key: _strict(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
