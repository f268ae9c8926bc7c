"""Forecasts of several runs at once: what `burnish forecast` does."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

from burnish.rl.forecast import show
from burnish.rl.forecast.compare import Comparison, compare
from burnish.rl.forecast.fit import Fit, fit
from burnish.rl.forecast.read import read_points
from burnish.runs.errors import UserError
from burnish.runs.progress import bar


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked.

    fit_until: share of each run's largest compute. at: compute to forecast (None: see `where`). r0: "start", "fit" or a number.
    """

    runs: Sequence[str]
    fit_until: float = 1.0
    drop_before: float = 0.0
    at: float | None = None
    r0: str | float = "start"
    axis: str = "flops"

    def check(self) -> None:
        """Raises UserError that names the option."""
        if not 0 < self.fit_until <= 1:
            raise UserError(f"--fit-until is {self.fit_until:g}; it must be a share above 0 and at most 1")
        if not (math.isfinite(self.drop_before) and self.drop_before >= 0):
            raise UserError(f"--drop-before is {self.drop_before:g}; it must be a number of at least 0")
        if self.at is not None and not (math.isfinite(self.at) and self.at > 0):
            raise UserError(f"--at is {self.at:g}; it must be a number above 0")
        self.start()

    def start(self) -> float | Literal["start", "fit"]:
        """r0 as `fit` takes it."""
        if self.r0 in ("start", "fit"):
            return self.r0  # type: ignore[return-value]
        try:
            value = float(self.r0)
        except ValueError:
            value = math.nan
        if not 0 <= value < 1:
            raise UserError(f"--r0 is {self.r0!r}; it must be a pass rate from 0 to 1, 'start' or 'fit'")
        return value

    def where(self, last: float) -> float:
        """The compute of a run's forecast: what was asked; else its last evaluation's, or twice that where all of it is fitted."""
        if self.at is not None:
            return self.at
        return last if self.fit_until < 1 else 2 * last


@dataclasses.dataclass(frozen=True)
class Found:
    """fits and where each is forecast; comparisons of the first run with each other one."""

    request: Request
    fits: list[Fit]
    at: list[float]
    comparisons: list[Comparison]

    @property
    def title(self) -> str:
        """Of the table and the plot."""
        share = f"the first {self.request.fit_until:.0%} of the compute" if self.request.fit_until < 1 else "all evaluations"
        return f"Forecast from {share} ({self.fits[0].points.unit})"

    def rows(self) -> list[dict[str, Any]]:
        """The table."""
        rows = [show.table_row(fit, at) for fit, at in zip(self.fits, self.at)]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        return [{key: row.get(key) for key in columns if any(other.get(key) is not None for other in rows)} for row in rows]

    def remarks(self) -> list[str]:
        """The forecasts in words, reasons of refusals, and the comparisons."""
        lines = [show.sentence(fit, at) for fit, at in zip(self.fits, self.at) if fit.forecastable]
        lines += [f"{fit.points.name}: {fit.verdict.text}: {fit.verdict.reason}." for fit in self.fits if not fit.forecastable]
        if any(fit.forecastable and fit.points.items is None for fit in self.fits):
            lines.append("No prompt's own pass rate is known, so intervals hold for these prompts only.")
        for other, found in zip(self.fits[1:], self.comparisons):
            lines.append(f"{self.fits[0].points.name} against {other.points.name}: {found.verdict}{found.basis}.")
        return lines

    def plot(self) -> str:
        """SVG text."""
        return show.plot(self.fits, max(self.at), self.title)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        runs = [show.as_json(fit, at) for fit, at in zip(self.fits, self.at)]
        return {"runs": runs, "comparisons": [found.to_dict() for found in self.comparisons]}


def forecast_runs(request: Request, silent: bool = True) -> Found:
    """Reads, fits and compares. Raises UserError for bad options and for what cannot be read."""
    request.check()
    points = [read_points(path, request.axis) for path in request.runs]
    if len({one.unit for one in points}) > 1:
        raise UserError("run folders and files measure compute differently; forecast them one by one")
    fits = []
    with bar(len(points), "forecast", silent=silent) as progress:
        for done, one in enumerate(points, 1):
            fits.append(fit(one, request.start(), request.fit_until * one.compute[-1], request.drop_before))
            progress.update(done)
    at = [request.where(float(one.compute[-1])) for one in points]
    return Found(request, fits, at, [compare(fits[0], other) for other in fits[1:]])
