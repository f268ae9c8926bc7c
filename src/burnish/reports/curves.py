"""The curves of a run: which are drawn, and how a plot becomes part of a page."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from markupsafe import Markup

from burnish.reports import words
from burnish.reports.run_files import RunFiles, finite
from burnish.reports.summary import Summary
from burnish.runs import plots

WINDOWS = 60
"""Runs of more steps than this are drawn as means over equal windows as well."""

BASELINE_NAMES = ("base", "sft")


@dataclasses.dataclass(frozen=True)
class Curve:
    """series: label -> metric, or several metric names of which the first that exists is drawn. only: a stage, or "" for any."""

    title: str
    series: Mapping[str, str]
    ylabel: str = ""
    only: str = ""


CURVES = (
    Curve("Reward", {"reward in training": "reward"}, "reward", "rl"),
    Curve("Success", {"in training": "success", "held-out": "eval/success"}, "share right"),
    Curve("Loss", {"training": "loss", "held-out": "eval/loss"}, "loss"),
    Curve("Token accuracy", {"training": "mean_token_accuracy", "held-out": "eval/mean_token_accuracy"}, "share right"),
    Curve("Entropy", {"training": "entropy", "held-out": "eval/entropy"}, "nats a token"),
    Curve("Completion length", {"mean": "completions/mean_length"}, "tokens", "rl"),
    Curve("KL to the reference", {"kl": "kl"}, "nats a token"),
    Curve("Uniform groups", {"all rewards equal": "frac_reward_zero_std"}, "share of groups", "rl"),
    Curve("Truncated completions", {"hit a limit": "completions/clipped_ratio"}, "share", "rl"),
    Curve("Gradient norm", {"before clipping": "grad_norm"}, "norm"),
    Curve("Learning rate", {"learning rate": "learning_rate"}, ""),
    Curve("Memory", {"peak": "memory/peak_mb"}, "MB"),
)


@dataclasses.dataclass(frozen=True)
class Plot:
    """svg: our own drawing, safe to put into a page. label: for readers who do not see it. note: one line below."""

    label: str
    svg: Markup
    note: str = ""


def curves(run: RunFiles) -> list[Plot]:
    """Every curve the run has numbers for; one that cannot be drawn becomes a problem of the run, not an error."""
    out: list[Plot] = []
    for curve in CURVES:
        if curve.only and run.stage and curve.only != run.stage:
            continue
        try:
            found = _draw(run, curve, len(out))
        except Exception as error:  # a report comes about whatever a plot library thinks of one curve
            run.problems.append(f"plot {curve.title!r} could not be drawn: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        if found is not None:
            out.append(found)
    return out


def baselines(run: RunFiles) -> dict[str, float]:
    """Held-out success of other models, for lines in the plot.

    From `evals/NAME.json` where NAME is in the config's eval.baselines (or base, or sft), else from the arms of summary.json
    with these names.
    """
    configured = run.setting("eval.baselines")
    names = [*(map(str, configured) if isinstance(configured, dict) else ()), *BASELINE_NAMES]
    found = {name: value for name in names if name in run.evals and (value := success_of(run.evals[name])) is not None}
    for arm in Summary.from_dict(run.summary).arms:
        if arm.name.lower() in names and arm.name.lower() not in found and arm.success is not None:
            found[arm.name.lower()] = arm.success
    return found


def success_of(result: Mapping[str, object]) -> float | None:
    """Success out of an evaluation file: a number or an interval under one of the names it may have."""
    for name in ("success", "pass@1", "mean"):
        value = result.get(name)
        if isinstance(value, Mapping):
            value = value.get("mean")
        if finite(value):
            return float(value)
    return None


def _draw(run: RunFiles, curve: Curve, place: int) -> Plot | None:
    series: dict[str, tuple[list[int], list[float]]] = {}
    bands: dict[str, tuple[list[float], list[float]]] = {}
    notes = []
    for label, name in curve.series.items():
        steps, values = run.series(name)
        if not values:
            continue
        if len(values) > WINDOWS and not name.startswith("eval/") and name != "learning_rate":
            width = -(-len(values) // WINDOWS)
            steps, values, low, high = windows(steps, values, width)
            bands[label] = low, high
            notes.append(f"{label}: mean, lowest and highest of every {width} steps")
        series[label] = steps, values
        lows, highs = dict(zip(*run.series(f"{name}_low"))), dict(zip(*run.series(f"{name}_high")))
        if name.startswith("eval/") and lows and highs:
            bands[label] = [lows.get(step, math.nan) for step in steps], [highs.get(step, math.nan) for step in steps]
            notes.append(f"{label}: band is the 95 % interval")
    lines = baselines(run) if curve.title == "Success" else {}
    if not series:
        return None
    if curve.title == "Memory" and len(set(series["peak"][1])) < 2:
        return None
    svg = plots.line_plot(series, title=curve.title, xlabel="step", ylabel=curve.ylabel, bands=bands or None, hlines=lines or None)
    last = ", ".join(f"{label} {words.number(values[-1])}" for label, (_, values) in series.items())
    return Plot(f"{curve.title} over steps; last: {last}", for_page(svg, f"plot{place}"), "; ".join(notes))


def windows(steps: list[int], values: list[float], width: int) -> tuple[list[int], list[float], list[float], list[float]]:
    """Last step, mean, lowest and highest value of each run of `width` values."""
    parts = [(steps[start : start + width], values[start : start + width]) for start in range(0, len(values), width)]
    last = [part[0][-1] for part in parts]
    return last, [sum(part[1]) / len(part[1]) for part in parts], [min(part[1]) for part in parts], [max(part[1]) for part in parts]


def for_page(svg: str, prefix: str) -> Markup:
    """An SVG document as part of a page: no prologue, no style sheet, ids that clash with no other plot's, and the page's own colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(?:width|height)="[^"]*"', "", head)
    return Markup(head + ">" + themed(rest))


def themed(svg: str) -> str:
    """White becomes the page's paper, black and greys its ink and lines, each curve's colour the page's own: readable in dark and light."""

    def swap(match: re.Match[str]) -> str:
        colour = match[2].lower()
        if colour in plots.COLOURS:
            return f"{match[1]}var(--p{plots.COLOURS.index(colour)}, {colour})"
        grey = int(colour[1:3], 16) if len(colour) == 7 and colour[1:3] == colour[3:5] == colour[5:7] else None
        if colour in ("#ffffff", "#fff", "white"):
            return f"{match[1]}var(--paper)"
        if colour in ("#000000", "#000", "black") or (grey is not None and grey < 0x50):
            return f"{match[1]}var(--ink)"
        return match[1] + (colour if grey is None else "var(--line)" if grey > 0xA0 else "var(--soft)")

    return re.sub(r"((?:fill|stroke):\s*)(#[0-9a-fA-F]{3,6}|white|black)\b", swap, svg)
