"""What an evaluation found: per-item results, the measures made of them, and the paired difference of two results."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from burnish.runs import atomic, stats
from burnish.runs.errors import UserError
from burnish.runs.stats import Interval


@dataclasses.dataclass(frozen=True)
class ItemResult:
    """One item's completions, all lists in sample order.

    successes: raw correctness in [0, 1]; None where invalid or unknown. rewards: None where invalid. tokens: output tokens.
    """

    id: str
    successes: list[float | None]
    rewards: list[float | None]
    truncated: list[bool]
    tokens: list[int]
    completions: list[str]
    prompt: str = ""
    parts: list[dict[str, float | None]] = dataclasses.field(default_factory=list)

    @property
    def known(self) -> list[float]:
        """The successes that are known."""
        return [value for value in self.successes if value is not None]

    @property
    def valid_rewards(self) -> list[float]:
        """The rewards of valid completions."""
        return [value for value in self.rewards if value is not None]

    @property
    def n(self) -> int:
        """Completions whose success is known."""
        return len(self.known)

    @property
    def n_right(self) -> int:
        """Completions that are entirely right (success 1): what pass@k counts."""
        return sum(value >= 1.0 for value in self.known)


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """Per-item results with how they were sampled. Intervals are 95 %, clustered by item."""

    items: list[ItemResult]
    samples: int
    sampling: dict[str, Any]
    seed: int = 0
    name: str = ""
    engine_mode: str = ""
    seconds: float = 0.0

    def success(self) -> Interval:
        """Mean success of one completion: pass@1, and with k samples an item also mean@k. NaN where no success is known."""
        return self._mean([(item.id, value) for item in self.items for value in item.known])

    def reward(self) -> Interval:
        """Mean reward of the valid completions."""
        return self._mean([(item.id, value) for item in self.items for value in item.valid_rewards], share=False)

    def pass_at(self, k: int) -> Interval:
        """The chance that one of k completions is entirely right, unbiased; over the items with at least k known completions.

        Raises UserError where k exceeds the samples.
        """
        if not 1 <= k <= self.samples:
            raise UserError(f"pass@{k} needs at least {k} samples an item; this evaluation has {self.samples}")
        return self._mean([(item.id, stats.pass_at_k(item.n, item.n_right, k)) for item in self.items if item.n >= k])

    @property
    def ks(self) -> list[int]:
        """1, 2, 4 ... up to the samples, and the samples themselves."""
        return sorted({2**i for i in range(self.samples.bit_length()) if 2**i <= self.samples} | {self.samples})

    @property
    def n_invalid(self) -> int:
        """Completions whose verifier or tool broke; left out of every mean."""
        return sum(value is None for item in self.items for value in item.rewards)

    @property
    def truncated(self) -> float:
        """Share of completions that a limit ended."""
        flags = [flag for item in self.items for flag in item.truncated]
        return sum(flags) / len(flags) if flags else math.nan

    def summary(self) -> dict[str, Any]:
        """Every measure as JSON values: pass@k and mean@k and reward with intervals, counts and shares."""
        tokens = [count for item in self.items for count in item.tokens]
        out: dict[str, Any] = {"name": self.name, "pass@1": _plain(self.success()), f"mean@{self.samples}": _plain(self.success())}
        out |= {f"pass@{k}": _plain(self.pass_at(k)) for k in self.ks if k > 1}
        return out | {
            "reward": _plain(self.reward()),
            "items": len(self.items),
            "samples": self.samples,
            "truncated": _number(self.truncated),
            "invalid": self.n_invalid,
            "tokens": sum(tokens),
            "mean_tokens": _number(sum(tokens) / len(tokens) if tokens else math.nan),
            "seconds": self.seconds,
            "seed": self.seed,
            "sampling": self.sampling,
            "engine_mode": self.engine_mode,
        }

    def to_json(self) -> str:
        """The summary and every item's results as JSON text; `from_json` reads it back."""
        results = [dataclasses.asdict(item) for item in self.items]
        return json.dumps(self.summary() | {"results": results}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, source: str = "the evaluation") -> EvalResult:
        """The inverse of `to_json`: the summary is made anew. Raises UserError that names `source` where the text is something else."""
        try:
            data = json.loads(text)
            items = [ItemResult(**item) for item in data["results"]]
            return cls(items, **{key: data[key] for key in ("samples", "sampling", "seed", "name", "engine_mode", "seconds")})
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{source} is no evaluation result of burnish ({reason}); give what `burnish eval --output` wrote") from None

    def save(self, path: str | Path) -> None:
        """Writes the JSON at once or not at all."""
        atomic.write_text(Path(path), self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> EvalResult:
        """Reads what `save` wrote. Raises UserError naming the file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UserError(f"cannot read the evaluation {path}: {reason}; give what `burnish eval --output` wrote") from None
        return cls.from_json(text, str(path))

    def _mean(self, pairs: Sequence[tuple[str, float]], share: bool = True) -> Interval:
        """Clustered mean. Shares stay in [0, 1]; where all items agree exactly, Wilson's interval over items takes the place of none."""
        values, clusters = [value for _, value in pairs], [key for key, _ in pairs]
        found = stats.clustered_mean(values, clusters)
        if not share or not values:
            return found
        if len(set(values)) == 1:
            n = len(set(clusters))
            agreed = stats.wilson(values[0] * n, n)
            return dataclasses.replace(found, low=agreed.low, high=agreed.high)
        return dataclasses.replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def paired_difference(
    a: EvalResult, b: EvalResult, measure: Literal["success", "reward"] = "success", only_common: bool = False
) -> Interval:
    """Mean of b - a over items, each the mean of its completions, paired by item id; the interval is clustered by item.

    Items without a known value in either are left out. Raises UserError where the two hold different items (unless `only_common`), or
    nothing to compare.
    """
    missing = len({item.id for item in a.items} ^ {item.id for item in b.items})
    if missing and not only_common:
        raise UserError(f"the evaluations hold different items ({missing} are in one only); compare results of the same held-out items")
    left, right = _means(a, measure), _means(b, measure)
    common = [key for key in left if key in right]
    if not common:
        raise UserError(f"the evaluations have no item in common whose {measure} is known in both")
    return stats.paired_difference([left[key] for key in common], [right[key] for key in common], clusters=common)


def _means(result: EvalResult, measure: str) -> Mapping[str, float]:
    lists = {item.id: item.known if measure == "success" else item.valid_rewards for item in result.items}
    return {key: sum(values) / len(values) for key, values in lists.items() if values}


def _plain(interval: Interval) -> dict[str, float | None]:
    return {key: _number(value) for key, value in interval.to_dict().items()}


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None
