"""The shapers `g2rl` and `update_geometry`: the one changes rewards by how novel an update is, the other only tells."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from burnish.models.needs import Need
from burnish.records import Score
from burnish.rl.rewards.g2rl import exploration
from burnish.rl.rewards.g2rl.features import check_temperature, sensitivity_need
from burnish.rl.rewards.g2rl.watch import Watch
from burnish.runs.config import Config, build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

MOST_LAM = {"text": 1.0, "formula": 2.0}
"""From here on a right answer could get no more than a wrong one."""


def sensitivities(group: Completions, measured: Mapping[str, Any] | None, temperature: float, name: str) -> np.ndarray:
    """Phi [N, d] of a group's rollouts, float64. Raises UserError where it was not measured, or at another temperature."""
    key = sensitivity_need(temperature).key
    if measured is None or key not in measured:
        raise UserError(f"shaper {name} needs {key!r} measured, which this caller does not; use it in training")
    for drawn in {turn.sampling.temperature or 1.0 for rollout in group.rollouts for turn in rollout.turns}:
        if not math.isclose(drawn, temperature or 1.0):
            raise UserError(
                f"shaper {name} measures at temperature {temperature:g}, but completions of item {group.item.id!r} were drawn at "
                f"{drawn:g}; give it the temperature: {{name: {name}, temperature: {drawn:g}}}, and leave rl.temperature out"
            )
    found = torch.stack(list(measured[key])).double().cpu().numpy()
    if not np.isfinite(found).all():
        raise UserError(f"shaper {name}: the update directions of item {group.item.id!r} are not finite; the model's weights are broken")
    return found


def strata(group: Completions, scores: Sequence[Score]) -> list[list[int]]:
    """Places of the valid rollouts, by agent: rollouts of different agents are never compared."""
    found: dict[str, list[int]] = {}
    for place, (rollout, score) in enumerate(zip(group.rollouts, scores, strict=True)):
        if not score.invalid:
            found.setdefault(rollout.agent, []).append(place)
    return list(found.values())


class Shaping(Config):
    """How novelty changes rewards. lam is not given in the paper; clip is its c."""

    lam: float = Field(0.5, ge=0, description="strength; below 1 in mode text, below 2 in mode formula")
    clip: float = Field(3.0, gt=0, description="shaped r stays in [-clip, clip]")
    mode: exploration.Mode = Field(
        "text", description="text: novel answers count more, right or wrong; formula: novel ones get more, wrong too"
    )
    uniform: Literal["leave", "shape"] = Field("leave", description="groups whose rewards are all equal: leave them, or shape them too")
    centre: bool = Field(False, description="take the group's mean vector away first: what all share by form")
    eps: float = Field(1e-6, gt=0, description="vectors shorter than this have no direction")
    wrong: float = Field(0.0, allow_inf_nan=False, description="the reward that stands for r = -1")
    right: float = Field(1.0, allow_inf_nan=False, description="the reward that stands for r = +1")

    @model_validator(mode="after")
    def _ordered(self) -> Shaping:
        if self.lam >= MOST_LAM[self.mode]:
            raise ValueError(
                f"lam is {self.lam}; in mode {self.mode!r} it must be below {MOST_LAM[self.mode]:g}, or a right answer could get no more "
                "than a wrong one"
            )
        if self.wrong >= self.right:
            raise ValueError(f"wrong is {self.wrong} and right {self.right}; wrong must be below right")
        return self


class Novelty(Watch):
    """Base: rewards are changed by how much each rollout's vector stands apart from its peers'; a subclass says which vectors.

    fields: those of `Shaping`. With uniform "shape", groups whose rewards are all equal learn from novelty alone, and a division by the
    group's standard deviation gives them full-size advantages whatever lam is. The shaped reward comes on the scale of `wrong` and
    `right` (the paper's own: -1 and 1), so that a factor of 1 changes nothing.

    Each agent's valid rollouts are compared among themselves; one alone keeps its reward. Truncated completions count as wrong where
    they are peers of others. Token rewards stay as they are.
    """

    def __init__(self, name: str, fields: Mapping[str, Any]):
        super().__init__(name)
        self.fields = build(Shaping, fields, f"shaper {name}")

    def vectors(self, group: Completions, measured: Mapping[str, Any] | None) -> np.ndarray:
        """float64 [N, d]: what is compared."""
        raise NotImplementedError

    def nubar(self, found: exploration.Exploration, group: Completions, places: Sequence[int]) -> np.ndarray:
        """[m] in [0, 1]: how novel each of the rollouts at `places` is."""
        return found.nubar

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The scores with shaped rewards; nu, nubar and the group's geometry stand in `extras` under the shaper's name."""
        out = list(scores)
        vectors = self.vectors(group, measured)
        for places in strata(group, scores):
            self._shape(group, out, places, vectors[places])
        return out

    def _shape(self, group: Completions, out: list[Score], places: Sequence[int], vectors: np.ndarray) -> None:
        own = self.fields
        raw = np.array([out[place].reward for place in places], dtype=np.float64)
        middle, half = (own.right + own.wrong) / 2, (own.right - own.wrong) / 2
        r = (raw - middle) / half
        truncated = np.array([group.rollouts[place].truncated for place in places])
        found = exploration.explore(vectors, np.where(truncated, -1.0, r), own.eps, own.centre)
        nubar = self.nubar(found, group, places)
        acts = len(places) > 1 and own.lam > 0 and (own.uniform == "shape" or float(np.ptp(raw)) > 1e-12)
        made, factor = exploration.shaped(r, nubar, own.lam, own.clip, own.mode) if acts else (r, np.ones(len(r)))
        told: dict[str, Any] = {}
        if len(places) > 1:
            clipped = float((np.abs(r * factor) > own.clip).mean()) if acts else 0.0
            told["group"] = exploration.geometry(found.similarity, found.tiny) | {"shaped": float(acts), "clipped": clipped}
        for n, place in enumerate(places):
            reward = float(middle + half * made[n]) if acts else out[place].reward
            says = {"reward": float(raw[n]), "nu": float(found.nu[n]), "nubar": float(nubar[n]), "factor": float(factor[n])}
            parts = {**out[place].parts, self.name: reward - float(raw[n])}
            extras = {**out[place].extras, self.name: {**says, **(told if n == 0 else {})}}
            out[place] = dataclasses.replace(out[place], reward=reward, parts=parts, extras=extras)


class G2RL(Novelty):
    """Completions that would update the policy in a direction of their own weigh more (arXiv 2512.15687). Put it after the verifier.

    temperature: `sampling.temperature` of the run (top-p truncation, if any, is not part of it). fields: see `Shaping`.
    Metrics: {name}/mean_cosine, negative_share, effective_rank, tiny, uniform_share (see `UpdateGeometry`), nu, shaped (share of groups
    that were), clipped (share of their rewards).
    """

    def __init__(self, temperature: float = 1.0, name: str = "g2rl", **fields: Any):
        super().__init__(name, fields)
        self.temperature = check_temperature(name, temperature)
        self.needs: tuple[Need, ...] = (sensitivity_need(self.temperature),)

    def vectors(self, group: Completions, measured: Mapping[str, Any] | None) -> np.ndarray:
        """Phi, measured under the weights that sampled."""
        return sensitivities(group, measured, self.temperature, self.name)


class UpdateGeometry(Watch):
    """Changes no reward; tells of each step what the updates of its groups look like, for any run. It costs one pass without gradient.

    Metrics, means over groups of two rollouts and more: {name}/mean_cosine (between the rollouts' update directions), negative_share (of
    pairs), effective_rank (participation ratio); tiny: rollouts without a direction, a sum. uniform_share: share of the absolute
    group-standardised advantage that comes from groups whose rewards were all equal when this shaper saw them; above 0 only where a
    later shaper tells them apart. With ngram > 0 also text_cosine, between counts of character n-grams.
    temperature, centre, eps: as for `G2RL`.
    """

    def __init__(self, temperature: float = 1.0, centre: bool = False, ngram: int = 0, eps: float = 1e-6, name: str = "update_geometry"):
        super().__init__(name)
        if ngram < 0 or not eps > 0:
            raise UserError(f"shaper {name}: ngram is {ngram} and eps {eps}; ngram must be 0 (none) or a length, eps above 0")
        self.temperature, self.centre, self.ngram, self.eps = check_temperature(name, temperature), centre, ngram, eps
        self.needs: tuple[Need, ...] = (sensitivity_need(self.temperature),)

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The same rewards."""
        from burnish.rl.rewards.g2rl.baselines import ngram_counts

        out = list(scores)
        vectors = sensitivities(group, measured, self.temperature, self.name)
        for places in strata(group, scores):
            told = None
            if len(places) > 1:
                told = exploration.geometry(*exploration.cosines(vectors[places], self.eps, self.centre))
                if self.ngram:
                    texts = exploration.cosines(ngram_counts([group.texts[place] for place in places], self.ngram))[0]
                    told["text_cosine"] = float(texts[np.triu_indices(len(places), 1)].mean())
            for n, place in enumerate(places):
                says: dict[str, Any] = {"reward": float(out[place].reward)} | ({"group": told} if n == 0 and told is not None else {})
                out[place] = dataclasses.replace(out[place], extras={**out[place].extras, self.name: says})
        return out
