"""The metrics of an optimiser step: from ratio, advantages and weights, the same for every preset, so that runs compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from burnish.rl.objectives.kl import FULL, estimate
from burnish.rl.objectives.knob import ENTROPY, REFERENCE, Point
from burnish.rl.objectives.tokens import TokenTable


def seen(
    x: Point,
    weights: Tensor,
    per_token: Tensor,
    clipped: Tensor,
    factor: Tensor,
    now: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Detached float64 tensors [k] on the CPU of one slice; `summary` joins those of all slices. now, own: as in `Objective.loss`."""
    kept: dict[str, Tensor] = {
        "loss": weights * per_token,
        "surrogate": weights * x.advantage * x.log_ratio.exp(),
        "log_ratio": x.log_ratio,
        "moved": x.logp - x.start,
        "surprise": -x.logp,
        "advantage": x.advantage,
        "clipped": clipped,
        "factor": factor,
    }
    if ENTROPY.key in now:
        kept["entropy"] = now[ENTROPY.key]
    if REFERENCE.key in own:
        kept["reference"] = x.logp - own[REFERENCE.key]
    if FULL.key in now or FULL.key in own:
        kept["reference_kl/full"] = now[FULL.key] if FULL.key in now else own[FULL.key]
    return detached(kept)


def detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float64 on the CPU, without gradient."""
    return {key: value.detach().cpu().double() for key, value in values.items()}


def summary(slices: Sequence[Mapping[str, Tensor]], table: TokenTable) -> dict[str, float]:
    """Over the kept loss tokens of the step.

    loss; objective/surrogate: sum w A rho (comparable across presets and steps). clip_ratio/low_mean, high_mean, region_mean: share of
    tokens where a bound acts with A < 0, with A > 0, either. ratio/*: of exp(l - ref_point) by token; ratio/ess: effective sample size
    (sum rho)^2 / (n sum rho^2), 1 on-policy. policy_kl/k1, k2, k3: KL(start || now), from samples of the start policy. kl and
    reference_kl/k1, k2, k3: KL(now || reference), where measured; kl is k3. reference_kl/full: over the vocabulary; then kl is that.
    correction/*: of the factors c. entropy: nats per token. critic/loss: sum of w times the critic's loss, beside `loss`; value/*: means.
    sampling/surprise: mean -l of the sampled tokens; on-policy its expectation is the entropy, whatever was sampled honestly.
    An empty step gives the loss 0 and nothing else.
    """
    names = list(dict.fromkeys(key for part in slices for key in part))
    x = {name: torch.cat([part[name] for part in slices if name in part]) for name in names}
    if not x or len(x["loss"]) == 0:
        return {"loss": 0.0, "rollouts/trained": 0.0}
    rho = x["log_ratio"].exp()
    low, high = x["clipped"].bool() & (x["advantage"] < 0), x["clipped"].bool() & (x["advantage"] > 0)
    values = {
        "loss": x["loss"].sum(),
        "objective/surrogate": x["surrogate"].sum(),
        "clip_ratio/low_mean": low.double().mean(),
        "clip_ratio/high_mean": high.double().mean(),
        "clip_ratio/region_mean": (low | high).double().mean(),
        "ratio/mean": rho.mean(),
        "ratio/min": rho.min(),
        "ratio/max": rho.max(),
        "ratio/ess": rho.sum().square() / (len(rho) * rho.square().sum()),
        "advantage/mean": x["advantage"].mean(),
        "advantage/abs_mean": x["advantage"].abs().mean(),
        "sampling/surprise": x["surprise"].mean(),
        "correction/mean": x["factor"].mean(),
        "correction/dropped": (x["factor"] == 0).double().mean(),
        "rollouts/trained": torch.tensor(float(table.n_kept)),
    }
    ranked = rho.sort().values
    values |= {f"ratio/q{share:02d}": ranked[round(share / 100 * (len(ranked) - 1))] for share in (1, 50, 99)}
    values |= {f"policy_kl/{kind}": estimate(kind, -x["moved"]).mean() for kind in ("k1", "k2", "k3")}
    if "reference" in x:
        values |= {f"reference_kl/{kind}": estimate(kind, x["reference"]).mean() for kind in ("k1", "k2", "k3")}
        values["kl"] = values["reference_kl/k3"]
    # what parts add under names of their own: shares of a loss are summed, all else is a mean over tokens
    values |= {name: value.sum() if name.endswith("/loss") else value.mean() for name, value in x.items() if "/" in name}
    if "reference_kl/full" in x:
        values["kl"] = values["reference_kl/full"]
    if "entropy" in x:
        values["entropy"] = x["entropy"].mean()
    return {name: float(value) for name, value in values.items()}
