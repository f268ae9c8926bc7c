"""Sample completions of a run, coloured by reward: which are shown, and how each is laid out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from burnish.reports import words
from burnish.reports.columns import marks_of
from burnish.reports.run_files import RunFiles, finite
from burnish.reports.tokens import Decoder, Token, decoder_of, marked, token_view

STEPS, GROUPS, COMPLETIONS, CHARACTERS, TOKENS = 16, 4, 8, 2000, 24000
"""At most so many steps, groups a step, completions a group, characters a text, and tokens shown one by one in the whole report."""

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Piece:
    """One turn. tokens: the stretches of the text to be told apart. text: what follows them (how much was cut)."""

    label: str
    text: str
    tokens: tuple[Token, ...] = ()


@dataclasses.dataclass(frozen=True)
class Completion:
    """colour: 0 (lowest reward shown) to 10 (highest), None for an invalid one. marks: short words such as "truncated"."""

    reward: str
    colour: int | None
    pieces: tuple[Piece, ...]
    marks: tuple[str, ...]
    parts: str


@dataclasses.dataclass(frozen=True)
class SampleGroup:
    """One problem and what was tried on it. columns: the task's other columns. uniform: all rewards equal."""

    item: str
    prompt: str
    columns: str
    completions: tuple[Completion, ...]
    left_out: int
    uniform: bool


@dataclasses.dataclass(frozen=True)
class SampleStep:
    """The first groups of a step, unselected."""

    step: int
    groups: tuple[SampleGroup, ...]
    left_out: int


@dataclasses.dataclass(frozen=True)
class Samples:
    """low and high: the rewards that the ends of the colour scale stand for. by_token: whether the token view is there.

    columns: token columns in the order of their colours.
    """

    steps: tuple[SampleStep, ...]
    low: float
    high: float
    by_token: bool
    columns: tuple[str, ...] = ()


def samples(run: RunFiles) -> Samples | None:
    """Completions out of at most `STEPS` steps, evenly spread, first and last among them; None where no rollouts were kept."""
    raw: dict[int, tuple[list[dict[str, Any]], int]] = {}
    for step in spread(list(run.rollouts), STEPS):
        raw[step] = run.groups(step, GROUPS)
    raw = {step: found for step, found in raw.items() if found[0]}
    if not raw:
        return None
    rewards = [
        score["reward"]
        for found, _ in raw.values()
        for group in found
        for score in _dicts(group.get("scores"))
        if finite(score.get("reward"))
    ]
    low, high = min(rewards, default=0.0), max(rewards, default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    layout = _Layout(run, decoder_of(run), low, high, TOKENS // len(raw))
    steps = []
    for step, (found, left_out) in raw.items():
        layout.left = layout.budget
        groups_shown = tuple(group for record in found if (group := layout.group(record, step)) is not None)
        steps.append(SampleStep(step, groups_shown, left_out))
    return Samples(tuple(steps), low, high, layout.decoder is not None, tuple(layout.columns))


def spread(values: Sequence[Value], n: int) -> list[Value]:
    """At most n of the values, evenly spread, the first and the last among them."""
    if len(values) <= n:
        return list(values)
    return [values[round(index * (len(values) - 1) / (n - 1))] for index in range(n)]


@dataclasses.dataclass
class _Layout:
    run: RunFiles
    decoder: Decoder | None
    low: float
    high: float
    budget: int
    left: int = 0
    columns: list[str] = dataclasses.field(default_factory=list)

    def group(self, record: dict[str, Any], step: int) -> SampleGroup | None:
        try:
            return self._group(record)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            name = self.run.rollouts[step].name
            self.run.problems.append(f"{name}: a group lacks what it should have ({type(error).__name__}: {error}); left out")
            return None

    def _group(self, record: dict[str, Any]) -> SampleGroup:
        item, rollouts, scores = record["item"], record["rollouts"], record["scores"]
        texts = record.get("texts") or [None] * len(rollouts)
        kept = record.get("kept") or [True] * len(rollouts)
        rows = list(zip(rollouts, scores, texts, kept))
        rewards = [score["reward"] for score in scores if not score.get("invalid")]
        return SampleGroup(
            item=words.safe(str(item.get("id", ""))),
            prompt=self._prompt(item.get("prompt") or [], rollouts),
            columns=words.clip(words.safe(_columns(item.get("columns") or {})), 400),
            completions=tuple(self._completion(*row) for row in rows[:COMPLETIONS]),
            left_out=max(0, len(rows) - COMPLETIONS),
            uniform=len(rewards) > 1 and max(rewards) - min(rewards) < 1e-12,
        )

    def _prompt(self, prompt: Sequence[Any], rollouts: Sequence[dict[str, Any]]) -> str:
        """What the policy saw where the tokenizer is at hand, else the messages."""
        seen = next((rollout["turns"][0]["context_ids"] for rollout in rollouts if rollout.get("turns")), None)
        if self.decoder is not None and seen:
            text = self.decoder.text(seen)
        elif prompt and isinstance(prompt[0], dict):
            text = "\n".join(f"{message.get('role', '?')}: {message.get('content', '')}" for message in prompt)
        else:
            text = f"({len(prompt)} token ids; no tokenizer in the run folder to show them with)"
        return words.clip(words.safe(text), CHARACTERS)

    def _completion(self, rollout: dict[str, Any], score: dict[str, Any], text: str | None, kept: bool) -> Completion:
        turns = rollout.get("turns") or []
        invalid, reward = bool(score.get("invalid")), score.get("reward")
        marks = [str(rollout.get("stop", ""))] if rollout.get("stop") not in ("eos", None) else []
        marks += ["invalid"] if invalid else []
        marks += [] if kept or invalid else ["filtered out"]
        if score.get("success") is not None:
            marks.append(
                "right" if score["success"] >= 1 else "wrong" if score["success"] <= 0 else f"success {words.number(score['success'])}"
            )
        n = sum(len(turn["output_ids"]) for turn in turns)
        marks.append(f"{n:,} tokens")
        shares = score.get("parts") or {}
        return Completion(
            reward="–" if invalid or not finite(reward) else words.number(reward),
            colour=None if invalid or not finite(reward) else self._colour(float(reward)),
            pieces=tuple(self._pieces(turns, text, score.get("extras") or {})),
            marks=tuple(map(words.safe, marks)),
            parts=words.safe(" · ".join(f"{name} {words.number(value)}" for name, value in shares.items())) if len(shares) > 1 else "",
        )

    def _pieces(self, turns: Sequence[dict[str, Any]], text: str | None, extras: dict[str, Any]) -> Iterable[Piece]:
        if self.decoder is None or self.left <= 0:
            whole = text if text is not None else f"({sum(len(turn['output_ids']) for turn in turns)} token ids)"
            yield Piece("", "", tuple(marked(words.clip(whole, CHARACTERS))))
            return
        names, marks = marks_of(turns, extras)
        self.columns += [name for name in names if name not in self.columns]
        colours = [self.columns.index(name) for name in names]
        marks = [[None if place is None else colours[place] for place in row] for row in marks]
        for index, turn in enumerate(turns):
            ids = turn["output_ids"][:CHARACTERS]
            logprobs, injected = turn.get("logprobs") or [None] * len(ids), turn.get("injected") or [False] * len(ids)
            view = token_view(ids, logprobs, injected, self.decoder, marks[index], self.columns)
            self.left -= len(view)
            label = f"turn {index + 1}" if len(turns) > 1 else ""
            label += f" · {turn['agent']}" if turn.get("agent", "policy") != "policy" else ""
            cut = len(turn["output_ids"]) - len(ids)
            yield Piece(words.safe(label), f"… (+{cut:,} tokens)" if cut else "", tuple(view))

    def _colour(self, reward: float) -> int:
        place = 0.5 if self.high <= self.low else (reward - self.low) / (self.high - self.low)
        return math.floor(10 * min(1.0, max(0.0, place)) + 0.5)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _columns(columns: dict[str, Any]) -> str:
    return " · ".join(
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}" for key, value in columns.items()
    )
