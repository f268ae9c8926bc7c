"""scalerl.2: how far sampler and trainer disagree when the head is multiplied in two orders, in bfloat16 and in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.claims.harness.claim import Arm, Claim, Verdict
from burnish.runs import plots
from burnish.runs.seeds import seed_for

FULL: dict[str, Any] = {"hidden": 512, "vocab": 32768, "tokens": 512, "scales": [3.0, 8.0], "parts": 4}
SMOKE: dict[str, Any] = FULL | {"vocab": 4096, "tokens": 64}
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
BLOCK = 128
CONFIDENT, FAR, SMALLER = 0.5, 0.2, 100.0


def arms(size: str) -> tuple[Arm, ...]:
    """The head's product in bfloat16 (the baseline) and in float32."""
    return tuple(Arm(name, (FULL if size == "full" else SMOKE) | {"dtype": name}) for name in DTYPES)


def seeds(size: str) -> tuple[int, ...]:
    """Three; one for smoke."""
    return (0, 1, 2) if size == "full" else (0,)


def run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    """For each scale: mean |log-prob difference|, and the share of |rho - 1| > 0.2 among all tokens and where the policy is confident.

    Weights and hidden states are random and bfloat16 in both arms; tokens are drawn from the float64 distribution, the same in both. The
    standard deviation of the logits is about the scale. split: the sampler's product is one, the trainer's is added up from `parts` of
    the hidden units, in the head's dtype. reordered: both are one product, with the hidden units in another order.
    """
    return {f"scale {scale:g}": _measure(dict(arm.settings), float(scale), seed) for scale in arm.settings["scales"]}


def _measure(settings: dict[str, Any], scale: float, seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed_for("scalerl head", seed, str(scale)) % 2**63)
    hidden, dtype = settings["hidden"], DTYPES[settings["dtype"]]
    head = (torch.randn(settings["vocab"], hidden, generator=generator) / hidden**0.5).bfloat16()
    order = torch.randperm(hidden, generator=generator)
    split, reordered, confident = [], [], []
    for start in range(0, settings["tokens"], BLOCK):
        n = min(BLOCK, settings["tokens"] - start)
        states = (torch.randn(n, hidden, generator=generator) * scale).bfloat16()
        exact = (states.double() @ head.double().T).log_softmax(-1)
        tokens = torch.multinomial(exact.exp(), 1, generator=generator)
        confident.append(exact.amax(-1).exp() >= CONFIDENT)
        h, w = states.to(dtype), head.to(dtype)
        whole = logprobs(h @ w.T, tokens)
        split.append(logprobs(in_parts(h, w, settings["parts"]), tokens) - whole)
        reordered.append(logprobs(h[:, order] @ w[:, order].T, tokens) - whole)
    gap, other, sure = torch.cat(split), torch.cat(reordered), torch.cat(confident)
    far = (gap.exp() - 1).abs() > FAR
    return {
        "mean_difference": float(gap.abs().mean()),
        "mean_difference_reordered": float(other.abs().mean()),
        "far": float(far.double().mean()),
        "far_confident": float(far[sure].double().mean()) if bool(sure.any()) else 0.0,
        "confident": float(sure.double().mean()),
        "tokens": float(len(gap)),
    }


def logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probs [n] of tokens [n, 1]; the softmax itself is in float32 in both arms."""
    return logits.float().log_softmax(-1).gather(1, tokens)[:, 0]


def in_parts(states: Tensor, head: Tensor, parts: int) -> Tensor:
    """states @ head.T, added up from `parts` slices of the hidden units, each sum rounded to the dtype."""
    pieces = zip(states.chunk(parts, 1), head.chunk(parts, 1))
    first, weights = next(pieces)
    out = first @ weights.T
    for piece, weights in pieces:
        out = out + piece @ weights.T
    return out


def verdict(results: list[Any], size: str) -> Verdict:
    """The rule: at every scale and seed 100 times smaller; the share at confident positions falls to zero from above zero."""
    found = {(row["arm"], row["seed"]): row["result"] for row in results}
    scales = sorted(next(iter(found.values())))
    seeds_run = sorted({seed for _, seed in found})
    ratios, figures = [], {}
    for scale in scales:
        for name in DTYPES:
            rows = [found[name, seed][scale] for seed in seeds_run]
            for key in ("mean_difference", "mean_difference_reordered", "far", "far_confident"):
                figures[f"{scale}: {name} {key.replace('_', ' ')}"] = sum(row[key] for row in rows) / len(rows)
        both = [(found["bf16", seed][scale]["mean_difference"], found["fp32", seed][scale]["mean_difference"]) for seed in seeds_run]
        ratios += [coarse / max(fine, 1e-12) for coarse, fine in both]
    figures["smallest ratio"] = min(ratios)
    far = {name: max(figures[f"{scale}: {name} far confident"] for scale in scales) for name in DTYPES}
    shares = f"{far['bf16']:.2%} against {far['fp32']:.2%}"
    text = f"bf16 is at least {min(ratios):.3g} times further off; far apart at confident positions: {shares}"
    if max(ratios) < SMALLER:
        level = figures[f"{scales[0]}: bf16 mean difference"]
        spread = {"effect": SMALLER, "interval_low": min(ratios), "interval_high": max(ratios), "baseline": level, "headroom": level}
        return Verdict("not reproduced", text, figures | spread)
    if far["bf16"] == 0:
        return Verdict("inconclusive", f"{text}; with bf16 none are, so nothing can fall to zero", figures)
    if min(ratios) >= SMALLER and far["fp32"] == 0:
        return Verdict("reproduced", text, figures)
    return Verdict("inconclusive", text, figures)


def plot(results: list[Any], verdict: Verdict) -> str:
    """Mean differences on a scale of powers of ten."""
    import math

    found = {
        f"{row['arm']}, {scale}": one["mean_difference"] for row in results if row["seed"] == 0 for scale, one in row["result"].items()
    }
    heights = {name: math.log10(max(value, 1e-12)) for name, value in found.items()}
    return plots.bar_plot(heights, f"scalerl.2: {verdict.status}", "log10 of the mean |log-prob difference|")


CLAIM = Claim(
    id="scalerl.2",
    title="The head in float32",
    paper="The Art of Scaling Reinforcement Learning Compute for LLMs, arXiv 2510.13786",
    sentence="Computing the head in float32 removes the disagreement between the sampler's and the trainer's log-probs.",
    rule=(
        "A random head (512 by 32768) is multiplied in two orders with the same weights: at once, and added up from four slices of the"
        " hidden units. Reproduced if the mean |log-prob difference| is at least 100 times smaller in float32 than in bfloat16 on every"
        " seed and at logits of standard deviation 3 and 8, and the share of tokens with |rho - 1| > 0.2 at positions whose largest"
        " probability is at least 0.5 falls to zero from above zero."
        " Not reproduced if it is less than 100 times smaller everywhere. Else inconclusive."
    ),
    arms=arms,
    seeds=seeds,
    run=run,
    verdict=verdict,
    plot=plot,
    minutes=3.0,
)
