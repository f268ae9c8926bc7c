"""A generative judge: a chat model reads question and completion, and gives a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from burnish.records import Score, StopReason
from burnish.rl.rewards.judging import Bench, check_template, column_of, last_value, prompt, question_of
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

TEMPLATE = "How good is the completion as an answer to the question?\n\n{question}\n\n{completion}"
WITH_REFERENCE = TEMPLATE + "\n\nA correct answer to compare with:\n\n{reference}"
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")


class Judge:
    """reward = (verdict - low) / (high - low), in [0, 1]; a verdict that failed, timed out or cannot be read makes the Score invalid.

    chat: a chat model or its spec, such as {"name": "http", "base_url": ..., "model": ..., "api_key_env": ...}.
    template: the user message, with the places {question}, {completion}, {reference} and any column of the row; each is filled with a
    block that its text cannot leave. question, reference: columns; the question is else the prompt. criteria: what "good" means, in words,
    for the system message. score_range: (low, high). answer: "json" wants {"score": number} as the last line, "number" the number alone.
    options: of every call (temperature 0 unless given). success_above: a reward at or above this is a success; None: success is unknown.
    timeout, give_up_after, cache: see `Bench`. label: the name in metrics, for several judges in one run.

    Metrics (since the last step): {label}/asked, calls, repeated (judged before), failed, tokens, cost. Raises UserError for settings that
    cannot work, a refused key, an unknown model and a judge that fails all the time.
    """

    def __init__(
        self,
        chat: Any = None,
        template: str | None = None,
        question: str | None = None,
        reference: str | None = None,
        criteria: str = "",
        score_range: Sequence[float] = (0, 10),
        answer: Literal["json", "number"] = "json",
        options: Mapping[str, Any] | None = None,
        success_above: float | None = None,
        timeout: float | None = None,
        give_up_after: int = 64,
        cache: int = 10_000,
        label: str = "judge",
    ) -> None:
        self.where, self.name = f"reward {label}", label
        self.template = check_template(template or (WITH_REFERENCE if reference else TEMPLATE), ("completion",), self.where)
        if answer not in ("json", "number"):
            raise UserError(f"{self.where}: answer is {answer!r}; it must be 'json' or 'number'")
        if len(score_range) != 2 or not -math.inf < score_range[0] < score_range[1] < math.inf:
            raise UserError(f"{self.where}: score_range is {list(score_range)}; it must be two numbers, the lower first")
        self.low, self.high, self.answer = float(score_range[0]), float(score_range[1]), answer
        self.question, self.reference, self.success_above = question, reference, success_above
        shape = '{"score": NUMBER} alone on the last line' if answer == "json" else "the number alone, nothing else"
        self.task = f"{criteria}\n\nGive a score from {self.low:g} (worst) to {self.high:g} (best). Answer with {shape}.".lstrip()
        self.bench = Bench(chat, self.where, {"temperature": 0.0, **(options or {})}, timeout, give_up_after, cache)
        self.decode: Callable[[list[int]], str] | None = None

    def __call__(self, group: Completions, measured: Mapping[str, Any] | None = None) -> list[Score]:
        """One Score for each rollout, in order; all are judged at once."""
        judged = [place for place, rollout in enumerate(group.rollouts) if rollout.stop != StopReason.ERROR]
        verdicts = dict(zip(judged, self.bench.ask([self.conversation(group, place) for place in judged], self.read)))
        return [self._score(verdicts.get(place, "the rollout ended in an error")) for place in range(len(group.rollouts))]

    def conversation(self, group: Completions, place: int) -> list[dict[str, Any]]:
        """What the judge is shown of one completion."""
        values: dict[str, Any] = {**group.item.columns, "completion": group.texts[place]}
        if "{question}" in self.template:
            values["question"] = question_of(group.item, self.question, self.decode, self.where)
        if self.reference is not None:
            values["reference"] = column_of(group.item, self.reference, self.where)
        return prompt(self.template, self.task, values, self.where)

    def read(self, text: str) -> float:
        """The verdict in an answer. Raises ValueError where there is none, or it lies outside the range."""
        if self.answer == "number":
            value: Any = float(text) if _NUMBER.fullmatch(text.strip()) else None
        else:
            found = last_value(text)
            value = found.get("score") if isinstance(found, dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            shown = " ".join(text.split())[-80:]
            raise ValueError(f"no score in the answer that ends {shown!r}")
        if not self.low <= value <= self.high:
            raise ValueError(f"the score {value:g} is outside {self.low:g} to {self.high:g}")
        return float(value)

    def _score(self, verdict: float | str) -> Score:
        if isinstance(verdict, str):
            return Score(reward=0.0, invalid=True, extras={"reason": f"{self.name}: {verdict}"})
        reward = (verdict - self.low) / (self.high - self.low)
        success = None if self.success_above is None else float(reward >= self.success_above)
        return Score(reward=reward, success=success, parts={self.name: reward}, extras={f"{self.name}_verdict": verdict})

    # --- its life -------------------------------------------------------------------------------------------------------------------------
    def metrics(self) -> dict[str, float]:
        """Of the verdicts since the last call."""
        return self.bench.metrics(self.name)

    def state_dict(self) -> dict[str, Any]:
        """The verdicts known."""
        return self.bench.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.bench.load_state_dict(state)


part = Judge
