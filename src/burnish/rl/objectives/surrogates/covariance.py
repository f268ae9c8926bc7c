"""Entropy control by covariance: few tokens, those whose log-prob and advantage move together, are dropped (`clip_cov`) or held (`kl_cov`).

The tokens are chosen once for the whole optimiser step, from the log-probs at its start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from burnish.rl.objectives.knob import Point, clamped, current_logp
from burnish.rl.objectives.surrogates.bounded import PPOClip
from burnish.rl.objectives.tokens import TokenTable


class ClipCov(PPOClip):
    """As PPO, but a random `share` of tokens (at least one) with covariance (A - mean A)(l - mean l) in (lower, upper) is dropped.

    Tokens that PPO clips are no candidates. The draw is seeded by the step's own numbers, so a repeated step repeats it.
    """

    formula: ClassVar = PPOClip.formula + "; 0 on a random {share} of tokens with (A - mean A)(l - mean l) in ({lower}, {upper})"
    tex: ClassVar = (
        PPOClip.tex + r"; \quad 0\ \mathrm{on\ a\ share\ of}\ <share>\ \mathrm{with}\ (A - \bar{A})(l - \bar{l}) \in (<lower>, <upper>)"
    )
    needs_start: ClassVar = True
    name: Literal["clip_cov"] = "clip_cov"  # type: ignore[assignment]
    share: float = Field(2e-4, gt=0, le=1, description="share of all tokens that is dropped")
    lower: float = Field(1.0, description="covariance above which a token may be dropped")
    upper: float = Field(5.0, description="covariance below which a token may be dropped")

    def prepare(self, table: TokenTable, tokens: Mapping[str, Tensor], ref_point: Tensor) -> dict[str, Tensor]:
        """dropped: bool [K]."""
        logp, advantage, kept = current_logp(tokens), tokens["advantage"].double(), table.kept_tokens
        covariance = _covariance(advantage, logp, kept)
        rho = clamped(logp - ref_point).exp()
        clipped = advantage * rho.clamp(1 - self.clip_low, 1 + self.clip_high) < advantage * rho
        candidates = (kept & ~clipped & (covariance > self.lower) & (covariance < self.upper)).nonzero()[:, 0]
        count = min(max(int(self.share * int(kept.sum())), 1), len(candidates))
        digest = hashlib.blake2b(covariance.cpu().numpy().tobytes(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count].to(candidates.device)]
        return {"dropped": torch.zeros_like(kept).index_fill(0, chosen, True)}

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """Dropped tokens count as bounded."""
        value, clipped = super().__call__(x)
        dropped = x.mark("dropped")
        return torch.where(dropped, torch.zeros_like(value), value), clipped | dropped


class KLCov(PPOClip):
    """As PPO, but the top `share` of tokens (at least one) by covariance gets + coef |l - l_o| in the loss."""

    formula: ClassVar = PPOClip.formula + "; - {coef} |l - l_o| on the top {share} of tokens by (A - mean A)(l - mean l)"
    tex: ClassVar = PPOClip.tex + r" - <coef>\, |l - l_o|\, [\mathrm{top}\ <share>\ \mathrm{by}\ (A - \bar{A})(l - \bar{l})]"
    needs_start: ClassVar = True
    name: Literal["kl_cov"] = "kl_cov"  # type: ignore[assignment]
    share: float = Field(2e-4, gt=0, le=1, description="share of all tokens that is held")
    coef: float = Field(1.0, ge=0, description="weight of the penalty")

    def prepare(self, table: TokenTable, tokens: Mapping[str, Tensor], ref_point: Tensor) -> dict[str, Tensor]:
        """held: bool [K]."""
        kept = table.kept_tokens
        covariance = _covariance(tokens["advantage"].double(), current_logp(tokens), kept)
        places = kept.nonzero()[:, 0]
        count = min(max(int(self.share * len(places)), 1), len(places))
        top = places[torch.argsort(covariance[places], descending=True, stable=True)[:count]]
        return {"held": torch.zeros_like(kept).index_fill(0, top, True)}

    def __call__(self, x: Point) -> tuple[Tensor, Tensor]:
        """The penalty enters the surrogate with a minus sign."""
        value, clipped = super().__call__(x)
        penalty = self.coef * clamped(x.logp - x.start).abs()
        return value - torch.where(x.mark("held"), penalty, torch.zeros_like(penalty)), clipped


def _covariance(advantage: Tensor, logp: Tensor, kept: Tensor) -> Tensor:
    """float64 [K]: (A - mean A)(l - mean l) over the kept tokens, 0 elsewhere."""
    if not bool(kept.any()):
        return torch.zeros_like(advantage)
    product = (advantage - advantage[kept].mean()) * (logp - logp[kept].mean())
    return torch.where(kept, product, torch.zeros_like(product))


parts = {"clip_cov": ClipCov, "kl_cov": KLCov}
