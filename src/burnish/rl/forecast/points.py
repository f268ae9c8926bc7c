"""What a forecast is made from: pass rates on the same held-out prompts at rising compute, in the order they were measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from burnish.runs.errors import UserError

AROUND = 0.125
"""Smoothing averages each point with this share of all points (at least three)."""


@dataclasses.dataclass(frozen=True)
class Points:
    """compute [n], strictly rising, in `unit`; the first may be 0 (before RL). rates [n] in [0, 1].

    items: [n, prompts], the pass rate of each prompt at each point, where known: intervals are then clustered by prompt.
    n_prompts, n_samples: how many prompts were asked, how often each, where known. ids: names of the columns of `items`, where known.
    """

    compute: np.ndarray
    rates: np.ndarray
    items: np.ndarray | None = None
    n_prompts: int | None = None
    n_samples: int | None = None
    name: str = ""
    unit: str = "compute"
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.compute)

    def between(self, low: float, high: float) -> Points:
        """The points with 0 < compute and low <= compute <= high."""
        inside = (self.compute > 0) & (self.compute >= low) & (self.compute <= high)
        return dataclasses.replace(
            self,
            compute=self.compute[inside],
            rates=self.rates[inside],
            items=self.items[inside] if self.items is not None else None,
        )

    def start(self) -> tuple[float | None, np.ndarray | None]:
        """Pass rate (and each prompt's) before RL; None where nothing was measured at compute 0."""
        if not len(self) or self.compute[0] != 0:
            return None, None
        return float(self.rates[0]), self.items[0] if self.items is not None else None

    def variances(self) -> np.ndarray:
        """Variance of each rate on these prompts [n], up to a factor: what the weights of a fit are made of.

        The prompts are the same at every point, so what one set of them has over another lifts all points alike and is no noise of a
        point about the curve (it belongs into the intervals, which are clustered by prompt). Left is how unevenly each prompt's samples
        fall: the mean over prompts of rate (1 - rate), where each prompt's rate is known, else that of the pass rate; all 1 where nothing
        is known. A quarter of the median is added, so that no point rules the others.
        """
        if self.items is not None and (self.n_samples or 1) > 1:
            found = (self.items * (1 - self.items)).mean(1)
        elif self.n_prompts is not None:
            found = self.rates * (1 - self.rates)
        else:
            return np.ones(len(self))
        middle = float(np.median(found))
        return found + 0.25 * middle if middle > 0 else np.ones(len(self))

    def noise(self) -> float:
        """Standard deviation of a point about its smooth course, from second differences (a slope and a level leave no trace)."""
        if len(self) < 4:
            return math.nan
        return float(np.sqrt(np.mean(np.diff(self.rates, 2) ** 2) / 6.0))

    def smoothed(self) -> np.ndarray:
        """Moving averages of `width` neighbouring points [n - width + 1]."""
        return np.convolve(self.rates, np.full(self.width, 1.0 / self.width), "valid")

    @property
    def width(self) -> int:
        """Points of one moving average."""
        return min(len(self), max(3, round(AROUND * len(self))))

    def fall(self) -> tuple[float, float]:
        """(largest fall of the smoothed curve, its standard error).

        The error is the larger of two: that of the paired difference over prompts, and what the points' own noise gives.
        """
        smooth = self.smoothed()
        peaks = np.maximum.accumulate(smooth)
        low = int(np.argmax(peaks - smooth))
        high = int(np.argmax(smooth[: low + 1]))
        width = self.width
        noise = self.noise()
        error = 0.0 if math.isnan(noise) else noise * math.sqrt(2.0 / width)
        if self.items is not None and self.items.shape[1] > 1 and low > high:
            change = self.items[low : low + width].mean(0) - self.items[high : high + width].mean(0)
            error = max(error, float(change.std(ddof=1)) / math.sqrt(len(change)))
        elif self.items is None and self.n_prompts is not None and self.n_samples is not None:
            level = float(np.clip(smooth[high], 0.0, 1.0))
            error = max(error, math.sqrt(2 * level * (1 - level) / (self.n_prompts * self.n_samples * width)))
        return float(peaks[low] - smooth[low]), error


def make_points(
    compute: Sequence[float] | np.ndarray,
    rates: Sequence[float] | np.ndarray,
    items: np.ndarray | None = None,
    n_prompts: int | None = None,
    n_samples: int | None = None,
    name: str = "",
    unit: str = "compute",
    ids: Sequence[str] | None = None,
) -> Points:
    """Checked points. Raises UserError where compute does not rise or a rate is no share."""
    c, r = np.asarray(compute, dtype=np.float64), np.asarray(rates, dtype=np.float64)
    place = f"{name}: " if name else ""
    if c.shape != r.shape or c.ndim != 1 or (items is not None and items.shape[:1] != c.shape):
        raise UserError(f"{place}{len(c)} values of compute but {len(r)} pass rates; give one for each")
    for index, value in enumerate(c):
        if not math.isfinite(value) or value < 0:
            raise UserError(f"{place}compute of evaluation {index + 1} is {value:g}; it must be a number of at least 0")
        if index and value <= c[index - 1]:
            before = c[index - 1]
            raise UserError(f"{place}compute of evaluation {index + 1} is {value:g}, after {before:g}; it must rise each time")
    wrong = np.flatnonzero(~((r >= 0) & (r <= 1)))
    if len(wrong):
        raise UserError(f"{place}pass rate of evaluation {wrong[0] + 1} is {r[wrong[0]]:g}; it must lie in [0, 1]")
    return Points(c, r, items, n_prompts, n_samples, name, unit, None if ids is None or items is None else tuple(ids))
