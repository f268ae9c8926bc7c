"""When no forecast may be given: too few points, no gain, a falling curve, or a window that does not pin the ceiling down.

The same rules for every run; each verdict comes with its reason in words. In simulated fits whose window ends at C_mid, A comes back within
0.02 in fewer than 2 of 10 cases, so a number given then would be a guess.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from burnish.rl.forecast.curve import Sigmoid
from burnish.rl.forecast.points import Points

FORECASTABLE = "forecastable"
TOO_SHORT = "window too short"
UNSTABLE = "unstable"
TOO_FEW = "too few points"
NO_GAIN = "no gain to fit"

MIN_POINTS = 6
"""Twice the number of fitted parameters."""
WIDEST = 0.05
"""The widest 80 % interval of A, on the prompts that were asked, that a forecast may rest on.

It asks whether the window pins the ceiling down, which other prompts do not change, so it is not clustered by prompt; what other prompts
would change is in the intervals that come with a forecast. Clustered it would refuse nearly everything: with 256 prompts of which 30 % can
never be solved, prompts alone make the 80 % interval 2 * 1.28 * sqrt(0.3 * 0.7 / 256) = 0.073 wide, whatever the window.
"""
MARGIN = 0.02
"""Three equal runs differ by up to 0.015 in A, so less than this means nothing (ScaleRL, section 3)."""
ERRORS = 3.0
"""Standard errors that make a fall, or a gain, real."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """text: "forecastable" or the refusal. reason: what was seen, in a sentence."""

    text: str
    reason: str = ""


def before_fitting(window: Points, r0: float | None, items0: np.ndarray | None) -> Verdict | None:
    """What forbids a fit at all; None where nothing does. window: points after the start of RL. r0: pass rate before it, where known."""
    if len(window) < MIN_POINTS:
        return Verdict(TOO_FEW, f"{len(window)} evaluations in the window; three parameters need at least {MIN_POINTS}")
    smooth = window.smoothed()
    noise = window.noise() / math.sqrt(window.width)
    if r0 is not None:
        at = int(np.argmax(smooth))
        error = noise
        if window.items is not None and items0 is not None and window.items.shape[1] > 1:
            gained = window.items[at : at + window.width].mean(0) - items0
            error = max(error, float(gained.std(ddof=1)) / math.sqrt(len(gained)))
        if smooth[at] - r0 <= ERRORS * error:
            return Verdict(NO_GAIN, _moved("rises", smooth[at] - r0, error))
    fall, error = window.fall()
    if fall > ERRORS * error:
        return Verdict(UNSTABLE, _moved("falls", fall, error))
    return None


def _moved(word: str, by: float, error: float) -> str:
    return f"the smoothed pass rate {word} by {by:.3f}, {ERRORS:g} standard errors are {ERRORS * error:.3f}"


def after_fitting(window: Points, curve: Sigmoid, width: float, edge: bool) -> Verdict:
    """Whether a fitted curve may be carried on. width: of the 80 % interval of A. edge: A sits on the edge of its grid."""
    first, last = window.compute[0], window.compute[-1]
    if edge:
        return Verdict(TOO_SHORT, "A sits on the edge of its grid, so the data do not show where the curve ends")
    if not first <= curve.c_mid <= last:
        side = "after" if curve.c_mid > last else "before"
        return Verdict(TOO_SHORT, f"half of the gain would be reached {side} the window's {'end' if side == 'after' else 'start'}")
    if not width <= WIDEST:
        return Verdict(TOO_SHORT, f"the 80 % interval of A is {width:.3f} wide; at most {WIDEST:g} is allowed")
    return Verdict(FORECASTABLE)


def at_edge(a: float, low: float, high: float, window: Points) -> bool:
    """True where A stands at a bound of its range and the data did not take it there themselves (within the margin)."""
    tiny = 1e-6
    if a >= high - tiny:
        return float(window.smoothed().max()) < high - MARGIN
    return a <= low + tiny
