"""Objective: six knobs that say how the policy moves.

Loss = sum_it w_it [ -S(rho_it, A_it, l_it) c_it + beta K_it - eta H_it ], one denominator, fixed before the step is cut.

    objective.needs()                                what to measure before credit (no gradient)
    advantages = objective.advantages(credit_batch)  once per batch: KL in the reward, then the credit chain
    plan = objective.plan(table, tokens)             once per optimiser step: weights and statistics of the whole step
    loss, seen = objective.loss(part, scored, tokens, plan, index)   for each slice of whole rollouts; losses add up
    metrics = objective.metrics(table, [seen, ...], plan)            once per optimiser step
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, PlainValidator, PrivateAttr, model_validator
from torch import Tensor

from burnish.models.needs import Need, union
from burnish.records import Sampling
from burnish.rl.credit.batch import Advantages, CreditBatch
from burnish.rl.credit.chain import Chain, make_chain
from burnish.rl.objectives import measures, told
from burnish.rl.objectives.checks import check_run
from burnish.rl.objectives.entropy import Entropy
from burnish.rl.objectives.formula import name_of
from burnish.rl.objectives.kl import FULL, KL, estimate
from burnish.rl.objectives.knob import ENTROPY, LOGP, SAMPLE_LOGP, Plan, Point, clamped, maker
from burnish.rl.objectives.tokens import TokenTable
from burnish.runs.config import Config, build, diff_configs
from burnish.runs.errors import UserError

ROOM = "burnish.rl.objectives"
_correction = maker(f"{ROOM}.corrections")


def _corrections(spec: Any) -> tuple[Any, ...]:
    if spec is None or spec == "none":
        return ()
    return tuple(_correction(one) for one in (spec if isinstance(spec, (list, tuple)) else [spec]))


class Objective(Config):
    """A value: build it from `presets.preset(name).with_(...)`, or from its knobs (names, mappings or objects).

    correction: "none", one correction, or several, whose factors multiply.
    What outlives a batch (moving baselines, an adaptive beta) is kept beside the knobs: `state_dict`, `load_state_dict`.
    """

    name: str = Field("custom", description="the preset it comes from; * where a knob was changed")
    credit: Annotated[Any, PlainValidator(make_chain)] = Field(description="baseline >> scale >> token map")
    ratio: Annotated[Any, PlainValidator(maker(f"{ROOM}.ratios"))] = Field(description="token, sequence, sequence_token, geometric or none")
    surrogate: Annotated[Any, PlainValidator(maker(f"{ROOM}.surrogates"))] = Field(description="what is maximised")
    correction: Annotated[Any, PlainValidator(_corrections)] = Field((), description="trainer against sampler")
    kl: KL = Field(default_factory=KL, description="estimator, place and coefficient")
    weights: Annotated[Any, PlainValidator(maker(f"{ROOM}.weights"))] = Field(description="the denominator")
    entropy: Entropy = Field(default_factory=Entropy, description="entropy bonus")
    _memory: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Objective:
        assert isinstance(self.credit, Chain)
        level, levels = getattr(self.ratio, "level", None), getattr(self.surrogate, "levels", None)
        if levels is not None and level is not None and level not in levels:
            raise ValueError(
                f"surrogate {name_of(self.surrogate)!r} wants a ratio of level {' or '.join(levels)}, not {name_of(self.ratio)!r}"
            )
        return self

    # --- as a value -------------------------------------------------------------------------------------------------------------------
    def with_(self, **knobs: Any) -> Objective:
        """The same with some knobs changed. A mapping without a name changes fields of the present value: `kl={"beta": 0.01}`.

        beta: short for `kl={"beta": ...}`; 0 also spares the reference model. Raises UserError.
        """
        if "beta" in knobs:
            knobs["kl"] = {**dict(knobs.get("kl", {})), "beta": knobs.pop("beta")}
        data = {field: getattr(self, field) for field in type(self).model_fields} | {"name": self.name.rstrip("*") + "*"}
        for knob, value in knobs.items():
            present = data.get(knob)
            if isinstance(value, Mapping) and "name" not in value and isinstance(present, Config) and not isinstance(present, Chain):
                value = build(type(present), {field: getattr(present, field) for field in type(present).model_fields} | dict(value), knob)
            data[knob] = value
        return build(Objective, data, "objective")

    def describe(self, latex: bool = False) -> str:
        """The formula in use with its numbers, one line for each knob; in LaTeX each line is a formula between dollar signs."""
        return told.in_latex(self) if latex else told.in_words(self)

    def for_run(
        self,
        group_size: int,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        models: Collection[str] | None = None,
        replays_support: bool = False,
        parts: Sequence[Any] = (),
    ) -> Objective:
        """Refuses combinations that cannot work (see `checks.check_run`), before anything loads, and fills in the run's length limit.

        models: names of the models the run has besides "policy", None: not known yet. parts: rewards and shapers.
        """
        check_run(self, group_size, sampling, models, replays_support, parts)
        if getattr(self.weights, "max_length", None) != "limit":
            return self
        bound = self.with_(weights={"max_length": max_new_tokens}, name=self.name)
        bound._memory.update(copy.deepcopy(self._memory))
        return bound

    # --- what to measure --------------------------------------------------------------------------------------------------------------
    def needs(self) -> tuple[Need, ...]:
        """Measured at the update's start, without gradient.

        The start policy's own log-prob is among them only where credit, the KL's place or the surrogate's statistics read it before the
        loss; as l_o of the ratio it is the trainer's affair (detached where there is one optimiser step, measured where there are more).
        """
        early = (LOGP,) if (self.kl.active and self.kl.place != "loss") or getattr(self.surrogate, "needs_start", False) else ()
        late = self.kl.estimator == "full" and self.kl.place == "loss"  # with gradient only
        return union(self.credit.needs(), (self.kl.need,) if self.kl.active and not late else (), early)

    def grad_needs(self) -> tuple[Need, ...]:
        """Measured with gradient, besides the log-prob; of other models too (a critic's values)."""
        own = (ENTROPY,) if self.entropy.active or self.entropy.measure else ()
        full = (FULL,) if self.kl.active and self.kl.estimator == "full" and self.kl.place == "loss" else ()
        return union(own, full, self.credit.grad_needs())

    @property
    def columns(self) -> tuple[str, ...]:
        """Token columns that the credit reads, for `CreditBatch.from_groups`."""
        return self.credit.columns

    # --- once per batch ---------------------------------------------------------------------------------------------------------------
    def advantages(self, batch: CreditBatch) -> Advantages:
        """KL in the reward, the credit chain, KL in the advantage. Moves what outlives the batch (moving baselines, adaptive beta).

        Where l_o was not measured the sampler's log-prob stands in.
        """
        if not self.kl.active or self.kl.place == "loss":
            return self.credit(batch, self._memory)
        kl = self._start_kl(batch)
        beta = self.beta
        self._follow(float(kl.sum()) / max(batch.table.n_kept_tokens, 1), batch.table.n_kept)
        if self.kl.place == "reward":
            return self.credit(dataclasses.replace(batch, token_rewards=batch.token_rewards - beta * kl), self._memory)
        found = self.credit(batch, self._memory)
        return dataclasses.replace(found, tokens=found.tokens - beta * kl)

    def _start_kl(self, batch: CreditBatch) -> Tensor:
        """float64 [K]: the KL of the start policy by token, 0 where not kept."""
        if self.kl.need.key not in batch.measured:
            raise UserError(f"kl.place is {self.kl.place!r} but {self.kl.need.key!r} was not measured")
        kl = batch.measured[self.kl.need.key].detach().to(batch.table.prompt.device).double()
        if self.kl.estimator != "full":
            start = batch.measured.get(LOGP.key, batch.measured.get(SAMPLE_LOGP))
            if start is None:
                raise UserError(f"kl.place is {self.kl.place!r} but neither the start policy's nor the sampler's log-probs are known")
            kl = estimate(self.kl.estimator, start.detach().to(kl) - kl)
        return torch.where(batch.table.kept_tokens, kl, torch.zeros_like(kl))

    # --- once per optimiser step ------------------------------------------------------------------------------------------------------
    def plan(self, table: TokenTable, tokens: Mapping[str, Tensor]) -> Plan:
        """Everything that depends on the whole optimiser step. tokens: [K] tensors, as for `loss`."""
        tokens = {key: value.to(table.prompt.device) for key, value in tokens.items()}
        marks = self.surrogate.prepare(table, tokens, self._ref_point(tokens)) if hasattr(self.surrogate, "prepare") else {}
        return Plan(table, self.weights(table), tokens, self.beta, self.eta, marks)

    def _ref_point(self, tokens: Mapping[str, Tensor]) -> Tensor:
        sampler = tokens[SAMPLE_LOGP]
        return (sampler if getattr(self.ratio, "against", "start") == "sampler" else tokens.get(LOGP.key, sampler)).double()

    def loss(
        self, table: TokenTable, scored: Mapping[str, Any], tokens: Mapping[str, Tensor], plan: Plan, index: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The slice's share of the step's loss (a scalar; shares add up) and detached [k] tensors for `metrics`.

        table: of the slice, whole rollouts (`TokenTable.pick`). scored: "policy.logp" and the `grad_needs`, [k] with gradient.
        tokens: [k] tensors: `Advantages.columns`, "sample_logp", "policy.logp" (l_o; left out: l detached, for a single optimiser step on
        a batch), and what was measured. index: places of the slice's tokens in the step. Dropped rollouts are selected away.
        """
        index, now = index.to(scored[LOGP.key].device), {key: value for key, value in scored.items() if isinstance(value, Tensor)}
        logp = now[LOGP.key]
        table = table.to(logp.device)
        own = {key: value.to(logp.device, logp.dtype) for key, value in tokens.items() if isinstance(value, Tensor)}
        assert table.kept is not None
        if not bool(table.kept.all()):
            table, places = table.pick(table.kept.nonzero()[:, 0])
            index = index[places]
            own, now = ({key: value[places] for key, value in named.items()} for named in (own, now))
            logp = now[LOGP.key]
        entropy = now.get(ENTROPY.key)
        x = self._point(logp, own, table, plan, index)
        surrogate, clipped = self.surrogate(x)
        factor = torch.ones_like(logp)
        for correction in self.correction:
            factor = factor * correction(x).detach()
        corrected = torch.where(factor == 0, torch.zeros_like(surrogate), surrogate * factor)
        per_token = -corrected
        if plan.beta and self.kl.active and self.kl.place == "loss":
            kl = now[FULL.key] if self.kl.estimator == "full" else self.kl.value(logp, own[self.kl.need.key])
            per_token = per_token + plan.beta * (kl * x.rho if self.kl.times_rho else kl)
        if plan.eta:
            if entropy is None:
                raise UserError("entropy.eta is set but the entropy was not measured with gradient")
            per_token = per_token - plan.eta * entropy
        weights = plan.weights.to(logp.device, logp.dtype)[index]
        loss = (weights * per_token).sum()
        seen = measures.seen(x, weights, per_token, clipped, factor, now, own)
        for step in self.credit.losses:
            of_step, more = step.token_loss(table, now, own)
            loss = loss + (weights.to(of_step) * of_step).sum().to(loss)
            seen |= measures.detached({f"{name_of(step)}/loss": weights.to(of_step) * of_step, **more})
        return loss, seen

    def _point(self, logp: Tensor, own: Mapping[str, Tensor], table: TokenTable, plan: Plan, index: Tensor) -> Point:
        sampler = own[SAMPLE_LOGP]
        start = own.get(LOGP.key, logp.detach())
        ref_point = sampler if getattr(self.ratio, "against", "start") == "sampler" else start
        rho = self.ratio(logp, ref_point, table)
        return Point(logp, start, sampler, ref_point, clamped(logp - ref_point), rho, own["advantage"], table, plan, index)

    def metrics(self, table: TokenTable, seen: Sequence[Mapping[str, Tensor]], plan: Plan) -> dict[str, float]:
        """The same for every preset and every cut of the step; see `measures.summary`. Moves adaptive coefficients of the loss."""
        found = measures.summary(seen, table)
        if self.kl.active and self.kl.place == "loss" and "kl" in found:
            self._follow(found["kl" if self.kl.estimator == "abs" else f"reference_kl/{self.kl.estimator}"], table.n_kept)
        if self.entropy.adaptive is not None and "entropy" in found:
            coefficient = self._memory.get("eta", self.entropy.eta)
            self._memory |= {"eta": self.entropy.adaptive.next(coefficient, found["entropy"]), "entropy": found["entropy"]}
            found["entropy/eta"] = plan.eta
        return found | ({"kl/beta": plan.beta} if self.kl.adaptive else {})

    # --- what outlives a batch --------------------------------------------------------------------------------------------------------
    @property
    def beta(self) -> float:
        """The KL coefficient of this moment."""
        return float(self._memory.get("beta", self.kl.beta))

    @property
    def eta(self) -> float:
        """The coefficient of the entropy bonus of this moment."""
        adaptive = self.entropy.adaptive
        return (
            self.entropy.eta if adaptive is None else adaptive.eta(self._memory.get("eta", self.entropy.eta), self._memory.get("entropy"))
        )

    def _follow(self, kl: float, n: int) -> None:
        if self.kl.adaptive is not None:
            self._memory["beta"] = self.kl.adaptive.next(self.beta, kl, n)

    def state_dict(self) -> dict[str, Any]:
        """JSON values: moving baselines, adaptive beta and eta."""
        return copy.deepcopy(self._memory)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._memory.clear()
        self._memory.update(copy.deepcopy(dict(state)))


def diff(a: Objective, b: Objective) -> list[str]:
    """What two objectives differ in, one line for each field."""
    return [line for line in diff_configs(a, b) if not line.startswith("name:")]
