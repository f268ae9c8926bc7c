"""The horizon curve: accuracy by chain length against what independent errors would give, and the depth skills. h1 (arXiv 2510.07312).

Success at step j, given success so far, is q_j = p sigma_j with p the success at h = 1; s_h = q_1 ... q_h. Independent errors give p^h.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.records import Item, Sampling
from burnish.runs.actions import Action
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng
from burnish.runs.stats import Interval
from burnish.tasks.eval_result import EvalResult

DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Depth:
    """One horizon. accuracy s_h, independent p^h and sigma with 95 % intervals; sigma of the steps since the last horizon measured.

    pass_at: chance that one of k completions is right, by k. samples: 1 / s_h, completions for one success (inf where none was seen).
    truncated: share of completions that the limit ended, which count as wrong.
    """

    horizon: int
    items: int
    accuracy: Interval
    independent: Interval
    sigma: Interval
    pass_at: dict[int, Interval]
    samples: float
    truncated: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN and infinity become None."""
        return _plain(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class HorizonCurve:
    """depths: rising horizons from 1 on. result: all completions."""

    depths: tuple[Depth, ...]
    result: EvalResult

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values without the completions."""
        return {"p": self.depths[0].accuracy.mean, "depths": [depth.to_dict() for depth in self.depths], "samples": self.result.samples}


def fitted_sigma(success: Sequence[float], horizons: Sequence[int] | None = None) -> list[float]:
    """sigma_j = (s_j / s_{j-1}) / p with p = s_1; sigma_1 = 1. NaN from the first horizon without success on.

    horizons: of the successes (default 1, 2, ...). Where some are missing, the steps between share one sigma: their geometric mean.
    Raises UserError unless the first horizon is 1.
    """
    hs = list(range(1, len(success) + 1)) if horizons is None else list(horizons)
    if not hs or hs[0] != 1 or len(hs) != len(success) or hs != sorted(set(hs)):
        raise UserError(
            f"the horizon curve needs success at h = 1 and rising horizons; it has {hs}: add chains of one (substituted) problem"
        )
    out, p = [1.0 if success[0] > 0 else math.nan], success[0]
    for (h0, s0), (h1, s1) in zip(zip(hs, success), zip(hs[1:], success[1:])):
        out.append((s1 / s0) ** (1 / (h1 - h0)) / p if p > 0 and s0 > 0 and s1 > 0 else math.nan)
    return out


def chain_success(p: float, sigma: Sequence[float]) -> list[float]:
    """s_h = product of q_j = p sigma_j, for h = 1, 2, ..."""
    return [float(value) for value in np.cumprod([p * one for one in sigma])]


def curve_of(result: EvalResult, horizons: Mapping[str, int], ks: Sequence[int] = (), seed: int = 0) -> HorizonCurve:
    """The curve of an evaluation. horizons: of each item, by id. ks: for pass@k.

    Intervals: p's own, raised to h; of sigma a bootstrap over the items of each horizon, which are independent (95 %, fixed by seed).
    Raises UserError where h = 1 is missing, or k exceeds the samples.
    """
    by_h: dict[int, EvalResult] = {}
    for h in sorted({horizons[item.id] for item in result.items}):
        by_h[h] = dataclasses.replace(result, items=[item for item in result.items if horizons[item.id] == h])
    hs = list(by_h)
    rates = [by_h[h].success() for h in hs]
    sigma = fitted_sigma([rate.mean for rate in rates], hs)
    drawn = np.stack([_bootstrap(by_h[h], seed, h) for h in hs])  # [horizons, draws]
    p = rates[0].mean
    depths = []
    for place, h in enumerate(hs):
        independent = Interval(p**h, rates[0].low ** h, rates[0].high ** h)
        skill = Interval(1.0, 1.0, 1.0) if h == 1 and p > 0 else _interval(sigma[place], _sigmas(drawn, hs, place))
        part = by_h[h]
        success = rates[place].mean
        depths.append(
            Depth(
                h, len(part.items), rates[place], independent, skill, {k: part.pass_at(k) for k in ks},
                1 / success if success > 0 else math.inf, part.truncated,
            )
        )  # fmt: skip
    return HorizonCurve(tuple(depths), result)


def horizon_curve(
    policy: Any,
    items: Sequence[Item],
    reward: Any = None,
    *,
    hs: Sequence[int] | None = None,
    samples: int = 4,
    ks: Sequence[int] = (),
    sampling: Sampling | None = None,
    seed: int = 0,
    engine: Any = None,
    name: str = "",
    template_args: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HorizonCurve:
    """Samples `samples` completions of every item and fits the curve. Plain sampling: no decomposition prompt and no search.

    items: with the column `horizon`; h = 1 must be among them, made of substituted problems like the rest. hs: only these horizons.
    reward: default `FinalAnswer` (last boxed or last number, truncated wrong). Raises UserError.
    """
    from burnish.rl.rewards.long_horizon_chains import FinalAnswer
    from burnish.tasks.evaluation import evaluate

    horizons = {item.id: _horizon(item) for item in items}
    if hs is not None and (missing := sorted(set(hs) - set(horizons.values()))):
        raise UserError(f"the data has no chains of horizon {missing[0]}; it has {', '.join(map(str, sorted(set(horizons.values()))))}")
    chosen = [item for item in items if hs is None or horizons[item.id] in hs]
    if 1 not in {horizons[item.id] for item in chosen}:
        raise UserError("the horizon curve needs chains of h = 1, the problems alone; make them with --h 1..N")
    if ks and max(ks) > samples:
        raise UserError(f"pass@{max(ks)} needs at least {max(ks)} samples; there are {samples}: raise --samples")
    found = evaluate(
        policy, chosen, reward or FinalAnswer(), samples, sampling, seed=seed, engine=engine, name=name, template_args=template_args,
        progress=progress,
    )  # fmt: skip
    return curve_of(found, horizons, ks, seed)


def rows(curve: HorizonCurve) -> list[dict[str, str]]:
    """The curve as the cells of a table."""
    out = []
    for depth in curve.depths:
        row = {"h": str(depth.horizon), "items": str(depth.items), "accuracy": str(depth.accuracy), "p^h": str(depth.independent)}
        row |= {"sigma": "-" if math.isnan(depth.sigma.mean) else str(depth.sigma)}
        row |= {f"pass@{k}": str(value) for k, value in depth.pass_at.items()}
        out.append(row | {"1/s": f"{depth.samples:.1f}", "truncated": f"{depth.truncated:.2f}"})
    return out


def table(cells: Sequence[Mapping[str, str]]) -> str:
    """Columns that line up."""
    names = list(cells[0])
    widths = [max(len(name), *(len(row[name]) for row in cells)) for name in names]
    lines = ["  ".join(name.rjust(width) for name, width in zip(names, widths))]
    return "\n".join([*lines, *("  ".join(row[name].rjust(width) for name, width in zip(names, widths)) for row in cells)])


def _horizon(item: Item) -> int:
    value = item.columns.get("horizon")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"item {item.id!r} has horizon {value!r}; every row needs a column `horizon`, a whole number of at least 1")
    return value


def _bootstrap(part: EvalResult, seed: int, h: int) -> np.ndarray:
    """Mean success of DRAWS resamples of the items."""
    known = [item for item in part.items if item.n]
    if not known:
        raise UserError(f"no completion at h = {h} could be judged; check the reward")
    sums, sizes = np.array([sum(item.known) for item in known]), np.array([item.n for item in known])
    places = rng("horizon curve", seed, h).integers(0, len(known), size=(DRAWS, len(known)))
    return sums[places].sum(1) / sizes[places].sum(1)


def _sigmas(drawn: np.ndarray, hs: Sequence[int], place: int) -> np.ndarray:
    if place == 0:
        return np.full(drawn.shape[1], math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (drawn[place] / drawn[place - 1]) ** (1 / (hs[place] - hs[place - 1])) / drawn[0]


def _interval(mean: float, draws: np.ndarray) -> Interval:
    finite = draws[np.isfinite(draws)]
    if math.isnan(mean) or not len(finite):
        return Interval(math.nan, math.nan, math.nan)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Interval(float(mean), float(low), float(high))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="local folder, hub id or adapter folder")
    parser.add_argument("data", help="chains with prompt, answer and horizon, such as the test.jsonl of `burnish data long-horizon-chains`")
    parser.add_argument("--hs", help="only these horizons, as 1..8 or 1,2,5")
    parser.add_argument("--samples", type=int, default=4, help="completions for each chain (default %(default)s)")
    parser.add_argument("--k", type=int, nargs="+", default=[], help="also pass@k, for k up to the samples")
    parser.add_argument("--tokens", type=int, default=512, help="longest completion, for each problem of a chain (default %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--reward", default="long_horizon_chains", help="a reward's name, module:name or file.py:name")
    parser.add_argument("--limit", type=int, help="read only the first rows")
    parser.add_argument("--text", action="store_true", help="prompts are plain text even where the model has a chat template")
    parser.add_argument("--dtype", default="float32", help="dtype of the weights (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="write the curve and every completion as JSON")


def _run(args: argparse.Namespace) -> int | None:
    import json

    from burnish.data.formats import load_rows
    from burnish.data.items import to_items
    from burnish.data.long_horizon_chains.files import horizons
    from burnish.models.load import load_model
    from burnish.models.policy import Policy
    from burnish.records import Limits
    from burnish.rl.rewards.weighted import Weighted
    from burnish.runs import atomic
    from burnish.runs.progress import bar

    hs = horizons(args.hs) if args.hs else None
    if args.samples < 1 or args.tokens < 1 or any(k < 1 for k in args.k):
        raise UserError(f"--samples {args.samples}, --tokens {args.tokens} and --k {args.k} must be at least 1")
    if args.output:
        atomic.refuse_unwritable(args.output, file=True)
    policy = Policy(*load_model(args.model, dtype=args.dtype))
    chat = not args.text and getattr(policy.tokenizer, "chat_template", None) is not None
    rows_read = load_rows(args.data, format="prompt", as_messages=chat, limit=args.limit)
    items = [
        dataclasses.replace(item, limits=Limits(max_new_tokens=_room(policy, item, args.tokens * _horizon(item))))
        for item in to_items(rows_read, policy)
    ]
    with bar(len(items), "eval", silent=args.json) as progress:
        curve = horizon_curve(
            policy, items, Weighted([args.reward], None, policy.decode, 1.0), hs=hs, samples=args.samples, ks=args.k,
            sampling=Sampling(temperature=args.temperature), seed=args.seed, name=args.model,
            progress=lambda done, total: progress.update(done),
        )  # fmt: skip
    if args.output:
        atomic.write_text(args.output, json.dumps({**curve.to_dict(), "evaluation": json.loads(curve.result.to_json())}) + "\n")
    print(json.dumps(curve.to_dict()) if args.json else table(rows(curve)))
    return None


def _room(policy: Any, item: Item, wanted: int) -> int:
    """At most what the model's context leaves."""
    if policy.max_length is None:
        return wanted
    prompt = len(policy.encode(item.messages)) if item.is_chat else len(item.token_ids)
    return max(1, min(wanted, policy.max_length - prompt))


evals = {"horizon": Action("accuracy by chain length, against independent errors, with depth skills", _arguments, _run)}
