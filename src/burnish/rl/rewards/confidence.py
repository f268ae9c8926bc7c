"""Confidence as a reward: how sure the policy was of its own tokens. Nothing is verified."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from burnish.models.needs import Need, Term
from burnish.records import Score
from burnish.rl.rewards.truth import Truth, broken
from burnish.runs.errors import UserError, did_you_mean
from burnish.tasks.completions import Completions


def certainty(logits: Tensor, ids: Tensor, extras: Any = None) -> Tensor:
    """KL(uniform || p) = -mean_v log p_v - log V, nats [C]; 0 where the policy has no idea."""
    return -torch.log_softmax(logits, -1).mean(-1) - math.log(logits.shape[-1])


NEEDS = {
    "entropy": Need(what="entropy"),
    "logp": Need(what="logp"),
    "self_certainty": Need(what=Term(certainty), name="self_certainty"),
}


class Confidence:
    """The mean over a rollout's loss tokens, in nats per token, at the sampling temperature and under the weights that sampled, of

    measure "entropy": minus the entropy of the next-token distribution (entropy minimisation as a reward: EM-RL, arXiv 2505.15134);
    "logp": the log-prob of the token drawn; "self_certainty": KL(uniform || policy) (Intuitor, arXiv 2505.19590).
    scale: multiplies it. truth: a verifier (a reward's or a task's name ...) whose verdict becomes `success`; None: not known.

    A rollout that broke, or that has no loss token, is invalid. Confidence alone is soon maximised by short, repeated text: watch
    success (`truth`) and the entropy.
    """

    reads_loss_tokens = True
    """It says nothing of a rollout that is never trained on."""

    def __init__(self, measure: str = "entropy", scale: float = 1.0, truth: Any = None, name: str = "confidence"):
        if measure not in NEEDS:
            raise UserError(f"reward confidence: measure is {measure!r}; {did_you_mean(measure, NEEDS)}")
        if not math.isfinite(scale):
            raise UserError(f"reward confidence: scale is {scale}; it must be a finite number")
        self.measure, self.scale, self.truth, self.name = measure, float(scale), Truth(truth), name

    @property
    def needs(self) -> tuple[Need, ...]:
        """Entropy, log-prob or self-certainty of the policy's tokens; and what the verifier wants."""
        return (NEEDS[self.measure], *self.truth.needs)

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order."""
        key = NEEDS[self.measure].key
        if measured is None or key not in measured:
            raise UserError(f"reward {self.name!r} needs {key!r} measured, which this caller does not; use it in training or evaluation")
        sizes = [rollout.n_loss_tokens for rollout in group.rollouts]
        sign = -1.0 if self.measure == "entropy" else 1.0
        means = [part.double().mean().item() if len(part) else math.nan for part in torch.split(measured[key].detach().cpu(), sizes)]
        scores = []
        for rollout, mean, success in zip(group.rollouts, means, self.truth.successes(group, measured), strict=True):
            if broken(rollout) or math.isnan(mean):
                why = "the rollout ended in an error" if broken(rollout) else "the rollout has no token of the policy's own"
                scores.append(Score(reward=0.0, invalid=True, extras={"reason": why}))
                continue
            reward = sign * self.scale * mean
            scores.append(Score(reward=reward, success=success, parts={self.name: reward}))
        return scores


part = Confidence
