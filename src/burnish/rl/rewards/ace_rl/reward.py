"""The reward of ACE-RL: R = (R_L + R_C) / 2, the length reward and the mean grade of the checklist's items (arXiv 2509.04903)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from burnish.data.ace_rl.checklist import Checklist, measure, of_columns
from burnish.models.policy import Policy
from burnish.records import Item, Score, StopReason
from burnish.rl.rewards.ace_rl.cache import GradeCache
from burnish.rl.rewards.ace_rl.grades import GradeTable, by_dimension, chosen, satisfaction
from burnish.rl.rewards.ace_rl.judges import ChatJudge, Failed, Question, make_judge
from burnish.rl.rewards.ace_rl.length import make_curve
from burnish.rl.rewards.ace_rl.panel import Panel
from burnish.rl.rewards.ace_rl.policy_chat import FrozenChat, freeze
from burnish.rl.rewards.ace_rl.tally import Tally
from burnish.rl.rewards.ace_rl.visible import visible
from burnish.rl.rewards.judging import question_of
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


@dataclasses.dataclass(frozen=True)
class Asked:
    """An item's checklist, and which of its items are held out of the reward."""

    checklist: Checklist
    held_out: tuple[bool, ...]

    @property
    def used(self) -> list[int]:
        """Places of the items that make the reward."""
        return [place for place, out in enumerate(self.held_out) if not out]


class AceRL:
    """reward = length_weight * R_L + (1 - length_weight) * R_C, in [0, 1].

    judge: a chat model or its spec, {"policy": folder}, "self" (the policy that is trained, as it was at the start), a function
    (item, text, instruction) -> grade or its name; see `judges.make_judge`. checklist, length: columns, as `burnish method ace-rl build`
    writes them. length_weight: 0.5 as published; 0 leaves length out. weights: "equal" as published, or "given": the items' own (both are
    in the metrics). grades: fields of `GradeTable`. curve: fields of `LengthCurve`. hold_out: the share of each checklist that is graded
    and reported, but kept out of the reward (0 as published); an item's own `held_out` wins.
    thinking: marks whose content is neither judged nor measured. cache: a JSONL file of grades, for this run and others; None: in memory,
    and in the checkpoints. judge_id: the judge's name in the cache, where its own would not do. options, timeout: of every call to a chat
    model. context: tokens that it can read. max_failures, window, least: see `Panel`. freeze: False lets "self" move with the training.
    success_above: R_C at or above this is a success; None: unknown. label: the name in metrics.

    An empty text (or one that is all thinking) gets 0 and is not judged. A text with a grade that failed twice is invalid, never zero.
    Raises UserError for settings that cannot work, a row without checklist or target, and where too many grades fail.
    """

    def __init__(
        self,
        judge: Any = None,
        checklist: str = "checklist",
        length: str = "target_length",
        length_weight: float = 0.5,
        weights: Literal["equal", "given"] = "equal",
        grades: Mapping[str, float] | None = None,
        curve: Mapping[str, float] | None = None,
        hold_out: float = 0.0,
        thinking: tuple[str, str] | None = ("<think>", "</think>"),
        cache: str | None = None,
        judge_id: str | None = None,
        options: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        context: int | None = None,
        max_failures: float = 0.02,
        window: int = 1000,
        least: int = 100,
        freeze: bool = True,
        success_above: float | None = 1.0,
        label: str = "ace_rl",
    ) -> None:
        self.where, self.name = f"reward {label}", label
        for name, share, top in (("length_weight", length_weight, 1.0), ("hold_out", hold_out, 0.9)):
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= top:
                raise UserError(f"{self.where}: {name} is {share!r}; it must be a share between 0 and {top:g}")
        if weights not in ("equal", "given"):
            raise UserError(f"{self.where}: weights is {weights!r}; it must be 'equal' or 'given'")
        self.checklist, self.length, self.length_weight, self.weights = checklist, length, float(length_weight), weights
        self.table = build(GradeTable, dict(grades or {}), f"{self.where}: grades")
        self.curve = make_curve(curve, f"{self.where}: curve")
        self.hold_out, self.thinking, self.freeze, self.success_above = float(hold_out), thinking, freeze, success_above
        self._own = judge == "self"
        self._make = lambda spec: make_judge(spec, self.where, options, timeout, context, judge_id)
        self._limits = (max_failures, window, least)
        self._cache = GradeCache(cache)
        self.panel = None if self._own else Panel(self._make(judge), self._cache, self.where, *self._limits)
        self.tally = Tally()
        self._asked: dict[str, Asked] = {}
        self._decode: Callable[[list[int]], str] | None = None

    # --- the policy it is told of ------------------------------------------------------------------------------------------------------
    @property
    def decode(self) -> Callable[[list[int]], str] | None:
        """Token ids -> text, of the policy in training. Being told of it is when "self" takes its copy: before the first update."""
        return self._decode

    @decode.setter
    def decode(self, value: Callable[[list[int]], str] | None) -> None:
        self._decode = value
        policy = getattr(value, "__self__", None)
        if self._own and self.panel is None and isinstance(policy, Policy):
            chat = FrozenChat(freeze(policy) if self.freeze else policy, live=not self.freeze)
            judge = self._make(chat)
            assert isinstance(judge, ChatJudge)
            judge.cached = self.freeze
            self.panel = Panel(judge, self._cache, self.where, *self._limits)

    # --- scores ------------------------------------------------------------------------------------------------------------------------
    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order; all items of all texts are graded at once."""
        if self.panel is None:
            raise UserError(f"{self.where}: judge is 'self', but there is no policy in training here; give {{policy: FOLDER}}")
        asked = self.asked(group.item)
        texts = visible(group, self.thinking, self._decode)
        judged = [n for n, rollout in enumerate(group.rollouts) if rollout.stop != StopReason.ERROR and texts[n].strip()]
        questions = [Question(texts[n], item, asked.checklist.instruction) for n in judged for item in asked.checklist.items]
        said = iter(self.panel.grade(questions))
        found: dict[int, list[Any]] = {n: [next(said) for _ in asked.checklist.items] for n in judged}
        scores = [self._score(asked, group, n, texts[n], found.get(n)) for n in range(len(texts))]
        self.tally.add(self.name, asked.checklist.items, scores)
        return scores

    def asked(self, item: Item) -> Asked:
        """The checklist of an item's row. Raises UserError where it has none."""
        name = item.id.partition("#")[0]
        where = f"{self.where}: item {item.id!r}"
        instruction = item.columns.get("instruction")
        if not isinstance(instruction, str):
            instruction = question_of(item, None, self._decode, self.where)
        known = self._asked.get(name)
        if known is None or known.checklist.instruction != instruction:
            checklist = of_columns(item.columns, instruction, where, self.checklist, self.length)
            if self.length_weight > 0 and checklist.target_length is None:
                raise UserError(f"{where} has no {self.length}; name the column that holds it (length: ...), or set length_weight to 0")
            flags = tuple(chosen(checklist.items, self.hold_out))
            if all(flags):
                raise UserError(f"{where}: all items are held out; leave at least one in the reward")
            known = self._asked[name] = Asked(checklist, flags)
        return known

    def _score(self, asked: Asked, group: Completions, place: int, text: str, said: Sequence[Any] | None) -> Score:
        rollout, items = group.rollouts[place], asked.checklist.items
        if rollout.stop == StopReason.ERROR:
            return Score(reward=0.0, invalid=True, extras={"reason": f"{self.name}: the rollout ended in an error"})
        length, wanted = measure(text, asked.checklist.unit), asked.checklist.target_length
        facts: dict[str, Any] = {"length": length, "target": wanted, "truncated": rollout.truncated}
        if said is None:
            parts = {f"{self.name}/{name}": 0.0 for name in ("checklist", "length")}
            return Score(reward=0.0, success=self._success(0.0), parts=parts, extras={self.name: facts | {"empty": True}})
        facts["grades"] = {item.id: one for item, one in zip(items, said) if not isinstance(one, Failed)}
        facts["held_out"] = [items[n].id for n in range(len(items)) if asked.held_out[n]]
        facts["repeats"] = repeats(text, asked)
        values = np.array([math.nan if isinstance(one, Failed) else self.table.value(one) for one in said])
        used = asked.used
        failed = [(items[n].id, said[n].why) for n in used if isinstance(said[n], Failed)]
        if failed:
            reason = f"{self.name}: item {failed[0][0]!r} has no grade: {failed[0][1]}"
            return Score(reward=0.0, invalid=True, extras={"reason": reason, self.name: facts})
        r_length = 0.0 if wanted is None else self.curve.value(length, wanted, rollout.truncated)
        shares = [items[n].weight for n in used]
        both = {"equal": float(satisfaction(values[None, used])[0]), "given": float(satisfaction(values[None, used], shares)[0])}
        r_checklist = both[self.weights]
        reward = combined(r_length, r_checklist, self.length_weight)
        parts = {f"{self.name}/checklist": r_checklist, f"{self.name}/length": r_length}
        if len(set(shares)) > 1:
            other = "given" if self.weights == "equal" else "equal"
            parts[f"{self.name}/checklist_{other}_weights"] = both[other]
        out = [n for n in range(len(items)) if asked.held_out[n] and not math.isnan(values[n])]
        if out:
            parts[f"{self.name}/held_out"] = float(values[out].mean())
        graded = {n: float(values[n]) for n in range(len(items)) if not math.isnan(values[n])}
        facts["dimensions"] = by_dimension(items, graded)
        return Score(reward=reward, success=self._success(r_checklist), parts=parts, extras={self.name: facts})

    def _success(self, r_checklist: float) -> float | None:
        return None if self.success_above is None else float(r_checklist >= self.success_above - 1e-12)

    # --- its life ----------------------------------------------------------------------------------------------------------------------
    def metrics(self) -> dict[str, float]:
        """Since the last call: calls, failures, satisfaction by dimension, held-out items, and each part's spread inside groups."""
        found = {**(self.panel.metrics() if self.panel is not None else {}), **self.tally.take()}
        return {f"{self.name}/{name}": value for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """The account of failures, and the grades where no file keeps them."""
        return self.panel.state_dict() if self.panel is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        if self.panel is not None and state:
            self.panel.load_state_dict(state)


def combined(r_length: float, r_checklist: float, length_weight: float = 0.5, empty: bool = False) -> float:
    """R of a text; an empty one gets 0 whatever its parts are."""
    return 0.0 if empty else length_weight * r_length + (1 - length_weight) * r_checklist


def repeats(text: str, asked: Asked) -> int:
    """Items whose very wording stands in the text: a sign that a text recites its checklist instead of meeting it."""
    plain = " ".join(text.lower().split())
    return sum(" ".join(item.text.lower().split()).rstrip(".") in plain for item in asked.checklist.items if len(item.text.split()) > 3)
