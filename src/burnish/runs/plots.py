"""Plots as SVG text, the same bytes for the same numbers, ready to stand inside an HTML page."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = ("#3366aa", "#cc4444", "#44883a", "#b8860b", "#7b4fa3", "#2a9d9d", "#555555", "#d06fa8")

Curve = tuple[Sequence[float], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Marks:
    """Points of a plot, filled or hollow. label: in the legend; "" keeps them out of it."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str = COLOURS[0]
    filled: bool = True
    label: str = ""


def line_plot(
    series: Mapping[str, Curve],
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    bands: Mapping[str, Curve] | None = None,
    hlines: Mapping[str, float] | None = None,
    marks: Sequence[Marks] = (),
    vlines: Sequence[float] = (),
) -> str:
    """Curves by name, each (x, y); NaN makes a gap. Returns `<svg ...`.

    bands: (low, high) about the curve of that name. hlines: levels by name. marks: points. vlines: thin dotted lines at these x.
    Raises ValueError where x and y differ in length or a band has no curve.
    """
    figure, axes = _figure(title, xlabel, ylabel)
    for place, (name, (x, y)) in enumerate(series.items()):
        if len(x) != len(y):
            raise ValueError(f"plot {title!r}: curve {name!r} has {len(x)} x values and {len(y)} y values")
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(list(x), list(y), label=name, color=colour, linewidth=1.6, marker="o" if len(x) < 3 else None)
        if bands and name in bands:
            low, high = bands[name]
            axes.fill_between(list(x), list(low), list(high), color=colour, alpha=0.18, linewidth=0)
    stray = set(bands or {}) - set(series)
    if stray:
        raise ValueError(f"plot {title!r}: no curve for the band {min(stray)!r}")
    for place, (name, level) in enumerate((hlines or {}).items()):
        axes.axhline(level, label=name, color=COLOURS[(len(series) + place) % len(COLOURS)], linestyle="--", linewidth=1.2)
    for points in marks:
        face, name = points.colour if points.filled else "none", points.label or "_nolegend_"
        axes.plot(list(points.x), list(points.y), "o", color=points.colour, markerfacecolor=face, markersize=3.5, label=name)
    for line in vlines:
        axes.axvline(line, color="#888888", linestyle=":", linewidth=1.0)
    if len(series) + len(hlines or {}) + sum(bool(points.label) for points in marks) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure, title)


def bar_plot(
    values: Mapping[str, float], title: str = "", ylabel: str = "", intervals: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """One bar for each name; intervals: (low, high) by name, drawn as whiskers (NaN: none). Returns `<svg ...`."""
    figure, axes = _figure(title, "", ylabel)
    for place, (name, value) in enumerate(values.items()):
        axes.bar([place], [value], color=COLOURS[place % len(COLOURS)], width=0.7)
        low, high = (intervals or {}).get(name, (math.nan, math.nan))
        if not math.isnan(low) and not math.isnan(high):
            axes.vlines([place], low, high, color="#222222", linewidth=1.4)
    axes.set_xticks(range(len(values)), list(values), fontsize=8)
    return _svg(figure, title)


def _figure(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.0, 3.4), layout="tight")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"burnish {title}", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
