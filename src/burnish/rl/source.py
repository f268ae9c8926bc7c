"""Source: draw -> think -> score -> filter. It turns weights into scored groups and knows nothing of losses."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from burnish.inference.backends.verbs import SubmitEngine
from burnish.inference.engine import Engine
from burnish.inference.session import AsyncEngine
from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout, Sampling, StopReason
from burnish.rl.batch import Batch, without_replayed
from burnish.rl.filters.combine import Chain
from burnish.rl.filters.result import FilterResult
from burnish.rl.measure import Measurer
from burnish.rl.scoring import score_groups
from burnish.rl.session import Session
from burnish.rl.shared import merged_metrics, shared_round
from burnish.rl.temperature import TemperatureControl
from burnish.runs import ranks
from burnish.runs.errors import UserError
from burnish.runs.resources import Timer


@dataclasses.dataclass
class Source:
    """The answers to the first three questions, wired to an engine.

    curriculum, thinker, reward, shapers, filters: the parts; see the folders of `burnish.rl`. Filters run here rather than in the
    Learner, since only the Source can draw more groups; each sees what those before it kept.
    A filter with `extend(groups, version)` may add rollouts to each round's groups, after the parts have observed them (replay).
    prompts: groups a step asks for. max_rounds: how often filters may ask for more groups in one step.
    temperature: moves the sampling temperature from step to step; None: `sampling` as it is.
    backend: samples in place of the engine (`inference.backends`), which then only evaluates; None: the engine's own session verbs.
    """

    policy: Policy
    engine: Engine
    curriculum: Any
    thinker: Any
    reward: Any
    measurer: Measurer
    shapers: Sequence[Any] = ()
    filters: Sequence[Any] = ()
    prompts: int = 8
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    template_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    max_rounds: int = 4
    temperature: TemperatureControl | None = None
    timer: Timer = dataclasses.field(default_factory=Timer)
    backend: Any = None

    @property
    def parts(self) -> dict[str, Any]:
        """All parts by the name under which they are checkpointed."""
        named = {"curriculum": self.curriculum, "thinker": self.thinker, "reward": self.reward}
        for kind, members in (("shaper", self.shapers), ("filter", self.filters)):
            named |= {f"{kind}.{index}": member for index, member in enumerate(members)}
        return named if self.temperature is None else {**named, "temperature": self.temperature}

    def collect(self, step: int, version: int) -> Batch:
        """The batch of one step; draws again as long as a filter asks for more, up to `max_rounds` rounds."""
        self.engine.refresh(version)
        if self.backend is not None:
            with self.timer("weights"):
                self.backend.refresh(version)
        self.sampling_at(step)  # on every rank, whether it draws or not
        work = Collecting(self, step, version)
        while work.open:
            drawn = work.draw()
            work.take(self._scored(drawn, step, work.rounds))
        batch = work.batch()
        batch.metrics = merged_metrics(batch.metrics)
        return batch

    def _scored(self, items: list[Item], step: int, number: int) -> list[Group]:
        """The scored groups of one round's items."""
        here = ranks.current()
        if here.world > 1:
            return shared_round(self, here, items, distinct(items), step, number)
        with self.timer("generate"):
            groups = self.think(items, step, number)
        with self.timer("score"):
            return score_groups(groups, self.reward, self.shapers, self.policy, self.measurer)

    def think(self, drawn: list[Item], step: int, number: int) -> list[tuple[Item, list[Rollout]]]:
        """The rollouts of each drawn item, sorted by index and agent. number: the round within the step."""
        found = self.rollouts_of(distinct(drawn), step, number)
        self.refuse_errors([rollout for members in found.values() for rollout in members], step)
        return list(zip(drawn, found.values()))

    def rollouts_of(self, items: list[Item], step: int, number: int) -> dict[str, list[Rollout]]:
        """The rollouts by item id, each item's sorted by index and agent. items: of different ids."""
        if not items:
            return {}

        async def gather() -> list[Rollout]:
            engine: Any = AsyncEngine(self.engine) if self.backend is None else SubmitEngine(self.backend)
            session = Session(engine, self.policy, self.sampling_at(step), self.seed, step, number, self.template_args)
            return [rollout async for rollout in self.thinker.think(items, session)]

        return self.by_item(items, asyncio.run(gather()))

    def by_item(self, items: list[Item], rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
        """The rollouts by item id, each item's sorted by index and agent. Raises UserError where one is of none of these items."""
        found: dict[str, list[Rollout]] = {item.id: [] for item in items}
        for rollout in rollouts:
            if rollout.item_id not in found:
                raise UserError(f"thinker {type(self.thinker).__name__} yielded a rollout of unknown item {rollout.item_id!r}")
            found[rollout.item_id].append(rollout)
        return {item: sorted(members, key=lambda r: (r.index, r.agent)) for item, members in found.items()}

    def sampling_at(self, step: int) -> Sampling:
        """How the rollouts of a step are drawn."""
        return self.sampling if self.temperature is None else self.temperature.at(step, self.sampling)

    def refuse_errors(self, rollouts: list[Rollout], step: int) -> None:
        """Raises UserError where every rollout ended in an error, or there is none."""
        if all(rollout.stop == StopReason.ERROR for rollout in rollouts):
            why = f"the first: {rollouts[0].outcome}" if rollouts else "there was none"
            raise UserError(f"every rollout of step {step} ended in an error ({why}); mend the thinker {type(self.thinker).__name__}")


@dataclasses.dataclass
class Collecting:
    """One batch on its way, round by round: draw, have the items thought about and scored, take the groups; until no more are wanted.

    groups: those taken so far. wanted: how many the next round draws. rounds: how many were taken. filters: None: the source's.
    """

    source: Source
    step: int
    version: int
    groups: list[Group] = dataclasses.field(default_factory=list)
    wanted: int | None = None
    rounds: int = 0
    verdict: FilterResult | None = None
    filters: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.source.prompts < 1:
            raise UserError("rl.prompts_per_step is 0; it must be at least 1")
        self.wanted = self.source.prompts if self.wanted is None else self.wanted

    @property
    def open(self) -> bool:
        """Whether one more round is wanted and allowed."""
        return bool(self.wanted) and self.rounds < self.source.max_rounds

    def draw(self) -> list[Item]:
        """The items of the next round. Raises UserError where the curriculum draws nothing, or what is no item."""
        curriculum = self.source.curriculum
        items = list(curriculum.draw(self.wanted, {"step": self.step, "seed": self.source.seed, "round": self.rounds}))
        if not items:
            raise UserError(f"curriculum {type(curriculum).__name__} drew no item at step {self.step}; give it more items or another one")
        if wrong := next((item for item in items if not isinstance(item, Item)), None):
            raise UserError(f"curriculum {type(curriculum).__name__} drew {wrong!r}; it must draw from the items that it was given")
        return items

    def take(self, scored: list[Group]) -> None:
        """The scored groups of the round that was drawn: parts observe them, filters judge all groups so far."""
        fresh = Batch(step=self.step, version=self.version, groups=scored)
        for part in self.source.parts.values():
            if hasattr(part, "observe"):
                part.observe(fresh)
        added = fresh.groups
        filters = self.source.filters if self.filters is None else self.filters
        for part in filters:
            added = part.extend(added, self.version) if hasattr(part, "extend") else added
        self.groups += added
        self.verdict = Chain(filters)(self.groups)
        self.wanted, self.rounds = self.verdict.more, self.rounds + 1

    def batch(self) -> Batch:
        """What the rounds made, with its metrics."""
        assert self.verdict is not None
        batch = Batch(step=self.step, version=self.version, groups=self.groups, keep=trained_only(self.groups, self.verdict.keep))
        batch.metrics = source_metrics(batch, self.rounds, self.verdict)
        for part in self.source.parts.values():
            batch.metrics |= part.metrics() if hasattr(part, "metrics") else {}
        return batch


def distinct(items: Sequence[Item]) -> list[Item]:
    """Gives a second drawing of the same item an id of its own, `id#2`: a rollout names its item by id, and so do its random numbers."""
    seen: dict[str, int] = {}
    out = []
    for item in items:
        seen[item.id] = seen.get(item.id, 0) + 1
        out.append(item if seen[item.id] == 1 else dataclasses.replace(item, id=f"{item.id}#{seen[item.id]}"))
    return out


def trained_only(groups: Sequence[Group], keep: Sequence[Sequence[bool]]) -> list[list[bool]]:
    """The flags without rollouts whose turns are all kept out of training (a frozen partner's): they must not count in any denominator."""
    return [
        [flag and any(turn.train for turn in rollout.turns) for rollout, flag in zip(group.rollouts, flags, strict=True)]
        for group, flags in zip(groups, keep, strict=True)
    ]


def source_metrics(batch: Batch, rounds: int, verdict: FilterResult) -> dict[str, float]:
    """TRL's names where TRL has one. Invalid rollouts are counted and left out of the statistics; replayed ones are only among the kept."""
    own = [without_replayed(group) for group in batch.groups]
    pairs = [(rollout, score) for group in own for rollout, score in zip(group.rollouts, group.scores)]
    valid = [(rollout, score) for rollout, score in pairs if not score.invalid]
    lengths = [sum(len(turn.output_ids) for turn in rollout.turns) for rollout, _ in valid] or [0]
    spreads = [group_std(rewards) for group in own for rewards in rewards_by_agent(group).values()]
    rewards = [score.reward for _, score in valid]
    metrics = {
        "reward": mean(rewards),
        "reward_std": mean(spreads),
        "frac_reward_zero_std": mean([float(spread < 1e-12) for spread in spreads]),
        "completions/mean_length": mean(lengths),
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": mean([float(rollout.truncated) for rollout, _ in valid]),
        "rollouts/drawn": float(len(pairs)),
        "rollouts/invalid": float(len(pairs) - len(valid)),
        "rollouts/kept": float(sum(sum(flags) for flags in batch.keep)),
        "rollouts/rounds": float(rounds),
    }
    successes = [score.success for _, score in valid if score.success is not None]
    if successes:
        metrics["success"] = mean(successes)
    for name in sorted({name for _, score in valid for name in score.parts}):
        metrics[f"rewards/{name}/mean"] = mean([score.parts[name] for _, score in valid if name in score.parts])
    return metrics | {f"filter/{name}": float(count) for name, count in verdict.counts.items()}


def rewards_by_agent(group: Group) -> dict[str, list[float]]:
    """Valid rewards of each agent: roles of one episode are never compared with one another."""
    found: dict[str, list[float]] = {}
    for rollout, score in zip(group.rollouts, group.scores, strict=True):
        found.setdefault(rollout.agent, []).extend([] if score.invalid else [score.reward])
    return found


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 for nothing."""
    return sum(values) / len(values) if values else 0.0


def group_std(values: Sequence[float]) -> float:
    """Population standard deviation; 0 for fewer than two values."""
    centre = mean(values)
    return (sum((value - centre) ** 2 for value in values) / len(values)) ** 0.5 if len(values) > 1 else 0.0
