"""Is A better than B, or is it the seed? The difference at equal compute, with an interval over seeds."""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import Any

import numpy as np
from scipy import stats

from burnish.reports.compare.arm import Arm
from burnish.runs.config import diff_configs
from burnish.runs.errors import UserError
from burnish.runs.stats import Interval

MOST_SEEDS = 10_000


@dataclasses.dataclass(frozen=True)
class Comparison:
    """a, b: the metric of each run at the budget, seed by seed. difference: mean of A minus B with its interval at `level`.

    verdict: "identical runs", "A is better", "B is better", "no difference found", "one seed" (an arm has no more: no interval) or
    "no spread" (seeds do not differ at all, and are too few to follow from that alone). paired: both arms have the same seeds.
    spread: standard deviation of the differences of a pair (paired), or of single runs (pooled). seeds_needed: for each arm, to tell a
    difference of `effect` apart; None where that would take more than MOST_SEEDS. axis, budget: where the arms are compared.
    """

    metric: str
    axis: str
    budget: float
    seeds_a: tuple[int, ...]
    seeds_b: tuple[int, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: Interval
    level: float
    paired: bool
    verdict: str
    spread: float
    effect: float
    seeds_needed: int | None
    changes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """The result in words."""
        found = f"{self.metric} of A - B: {self.difference.mean:+.4g}"
        if self.verdict == "identical runs":
            return "identical runs: with the same seeds A and B agree in every figure, so the difference is exactly 0"
        if self.verdict == "one seed":
            return f"{found} {self._alone()}: no interval, so nothing follows; use --seeds 3 or more"
        if self.verdict == "no spread":
            return (
                f"{found} over {self._pairs()}, with no spread at all between seeds, so there is no interval; the metric may be too coarse "
                f"(evaluate on more items or samples), or {self.seeds_needed} seeds an arm that agree like this would tell A and B apart"
            )
        found += (
            f" [{self.difference.low:+.4g}, {self.difference.high:+.4g}], {self.level:.0%} interval over {self._pairs()}: {self.verdict}"
        )
        if self.verdict == "no difference found" and not self.effect:
            equal = "the means are equal" if self.spread else "every figure is equal"
            return f"{found}; {equal} (--effect tells how many seeds a difference needs)"
        if self.verdict == "no difference found":
            many = f"about {self.seeds_needed}" if self.seeds_needed else f"more than {MOST_SEEDS}"
            found += f"; {many} seeds an arm would tell a difference of {self.effect:.3g} apart"
        return found

    def _alone(self) -> str:
        counts = (len(self.a), len(self.b))
        return "with one seed each" if counts == (1, 1) else f"with {counts[0]} and {counts[1]} seeds"

    def _pairs(self) -> str:
        return f"{len(self.a)} pairs of seeds" if self.paired else f"{len(self.a)} and {len(self.b)} unpaired seeds"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self) | {"sentence": self.sentence()}


def compare_arms(
    a: Arm, b: Arm, metric: str, level: float = 0.95, effect: float | None = None, lower_is_better: bool = False
) -> Comparison:
    """Compares two arms at the compute that every run reached, in FLOPs where both count them, else in tokens.

    With the same seeds in both arms the pairs are compared (Student's t over pairs), else the arms (Welch's t).
    effect: the difference worth telling apart, for the number of seeds; default what was found.
    Raises UserError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise UserError(f"level is {level}; it must lie between 0 and 1, such as 0.95")
    axis = "flops" if all("flops" in curve.x for arm in (a, b) for curve in arm.curves) else "tokens"
    budget = min(a.end(axis), b.end(axis))
    left, right = ([curve.at(axis, budget) for curve in arm.curves] for arm in (a, b))
    paired = a.seeds == b.seeds
    same = paired and all(one.rows == two.rows for one, two in zip(a.curves, b.curves))
    difference, spread = _paired(left, right, level) if paired else _welch(left, right, level)
    aim = abs(difference.mean) if effect is None else effect
    verdict = "identical runs" if same else _verdict(difference, lower_is_better, level, len(left), len(right), paired)
    return Comparison(
        metric=metric,
        axis=axis,
        budget=budget,
        seeds_a=a.seeds,
        seeds_b=b.seeds,
        a=tuple(left),
        b=tuple(right),
        difference=difference,
        level=level,
        paired=paired,
        verdict=verdict,
        spread=spread,
        effect=aim,
        seeds_needed=_agreeing(level, paired) if verdict == "no spread" else seeds_needed(spread, aim, level, paired),
        changes=tuple(diff_configs(a.config, b.config)),
    )


def seeds_needed(spread: float, effect: float, level: float = 0.95, paired: bool = True) -> int | None:
    """Seeds an arm at which the interval's half width falls to `effect`; None beyond MOST_SEEDS.

    spread: standard deviation of a pair's difference, or of one run where seeds are not paired.
    """
    if not effect or not math.isfinite(spread):
        return None

    def wide(count: int) -> bool:
        freedom, variance = (count - 1, spread**2 / count) if paired else (2 * count - 2, 2 * spread**2 / count)
        return float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(variance) > effect

    found = 2 + bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=lambda count: not wide(count))
    return found if found <= MOST_SEEDS else None


def _paired(a: list[float], b: list[float], level: float) -> tuple[Interval, float]:
    found = np.array(a) - np.array(b)
    mean, n = float(found.mean()), len(found)
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, n), math.nan
    spread = _apart(float(found.std(ddof=1)), [*a, *b])
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * spread / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, n), spread


def _welch(a: list[float], b: list[float], level: float) -> tuple[Interval, float]:
    mean, n = float(np.mean(a) - np.mean(b)), min(len(a), len(b))
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, n), math.nan
    shares = [_apart(float(np.std(values, ddof=1)), values) ** 2 / len(values) for values in (a, b)]
    spread = math.sqrt(sum(share * len(values) for share, values in zip(shares, (a, b))) / 2)
    total = sum(shares)
    if total == 0:
        return Interval(mean, mean, mean, n, n), 0.0
    freedom = total**2 / sum(share**2 / (len(values) - 1) for share, values in zip(shares, (a, b)))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(total)
    return Interval(mean, mean - half, mean + half, n, n), spread


def _apart(spread: float, values: list[float]) -> float:
    """0 for a spread that is rounding alone."""
    return 0.0 if spread <= 1e-12 * max(map(abs, values)) else spread


def _verdict(difference: Interval, lower_is_better: bool, level: float, n_a: int, n_b: int, paired: bool) -> str:
    if math.isnan(difference.low):
        return "one seed"
    if difference.low <= 0 <= difference.high:
        return "no difference found"
    if difference.low == difference.high and _chance(n_a, n_b, paired) > 1 - level + 1e-12:
        return "no spread"
    return "A is better" if (difference.mean > 0) != lower_is_better else "B is better"


def _chance(n_a: int, n_b: int, paired: bool) -> float:
    """How often seeds alone would put every pair (sign test) or every run of an arm (rank test) on one side; either side counts."""
    return 2 * 0.5**n_a if paired else 2 / math.comb(n_a + n_b, n_a)


def _agreeing(level: float, paired: bool) -> int:
    """The least number of seeds an arm whose agreement is less likely by chance than 1 - level."""
    return next(n for n in range(2, MOST_SEEDS) if _chance(n, n, paired) <= 1 - level + 1e-12)
