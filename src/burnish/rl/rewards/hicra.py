"""HICRA's shaper: marks planning tokens for the credit, and measures semantic entropy (arXiv 2509.03646, "Marking tokens", "Measures").

It changes no score, so any run may have it: `rl.shapers: [{name: hicra, grams: grams.json, tokenizer: my-model}]`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.data.hicra.entropy import by_unit, check_unit, summed
from burnish.data.hicra.grams import grams_of
from burnish.data.hicra.marking import mark_rollout, remembered
from burnish.models.needs import Need
from burnish.records import Group, Rollout, Score
from burnish.rl.batch import Batch
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

ENTROPY = Need(what="entropy")
HIGH = 0.3
"""Share of tokens that count as those of high entropy."""


class Hicra:
    """Writes the 0/1 token column `planning` (one value for each loss token) into `score.extras`, and reports, step by step:

    hicra/semantic_entropy: nats over all occurrences, by cluster; _fixed: the mean of subsamples of fixed size, comparable when the
    number of occurrences (hicra/occurrences) moves, left out where there are too few; _right: over right completions only.
    hicra/planning_share: of loss tokens. hicra/perplexity_planning, _execution: of the tokens drawn, under the policy that drew them.
    With token_entropy also hicra/entropy_planning, _execution (means in nats); hicra/high_that_plan: share of planning tokens among the
    30 % of highest entropy; hicra/plan_that_is_high: share of these among planning tokens. It costs a pass without gradient.

    grams: the file of `burnish method hicra extract`, a Grams, or a list of phrases; fixed through a run, so that values compare.
    tokenizer: folder, hub id or object that decodes the ids; needed unless a `decode` (ids -> text without special tokens) is bound.
    unit: "clusters" or "grams". subsample: occurrences. least: a run is refused whose first batch has a smaller share of planning tokens
    (0: never, for runs that only watch). column: name of the token column.
    """

    def __init__(
        self,
        grams: Any,
        tokenizer: Any = None,
        unit: str = "clusters",
        subsample: int = 256,
        least: float = 0.001,
        token_entropy: bool = False,
        column: str = "planning",
        name: str = "hicra",
    ):
        check_unit(unit)
        if subsample < 1:
            raise UserError(f"shaper {name}: subsample is {subsample}; it must be at least 1")
        if not 0 <= least < 1:
            raise UserError(f"shaper {name}: least is {least}; it must be a share of tokens, at least 0 and below 1")
        self.grams = grams_of(grams)
        self.unit, self.subsample, self.least, self.column, self.name = unit, subsample, least, column, name
        self.needs: tuple[Need, ...] = (ENTROPY,) if token_entropy else ()
        self.decode: Callable[[list[int]], str] | None = None
        self._number = {gram: number for number, gram in enumerate(self.grams.grams)}
        self._probed = False
        self._seen = _Seen()
        if tokenizer is not None:
            self.decode = remembered(_decoder(tokenizer))

    def bind(self, decode: Callable[[list[int]], str]) -> None:
        """The policy's own decode, where none was given."""
        self.decode = self.decode or remembered(decode)

    def shape(self, group: Completions, scores: Sequence[Score], measured: Mapping[str, Any] | None = None) -> list[Score]:
        """The same scores with the column, and the occurrences under the shaper's name, in their extras."""
        if self.decode is None:
            raise UserError(f"shaper {self.name} has no tokenizer; set it: {{name: hicra, grams: ..., tokenizer: <the model's folder>}}")
        out = []
        for rollout, score in zip(group.rollouts, scores, strict=True):
            marks = mark_rollout(rollout, self.grams, self.decode)
            found = {self.grams.grams[gram]: n for gram, n in marks.occurrences.items()}
            extras = {**score.extras, self.column: marks.tokens.astype(int).tolist(), self.name: {"occurrences": found}}
            out.append(dataclasses.replace(score, extras=extras))
        if self.needs and measured is not None and ENTROPY.key in measured:
            marked = np.concatenate([np.asarray(score.extras[self.column], dtype=bool) for score in out])
            self._seen.entropies.append((measured[ENTROPY.key].detach().double().cpu().numpy(), marked))
        return out

    def observe(self, batch: Batch) -> None:
        """Gathers a round's measures from the scores. Raises UserError where the first batch has too few planning tokens."""
        for group in batch.groups:
            self._gather(group)
        self._seen.step = batch.step
        if not self._probed and self._seen.tokens:
            self._probed = True
            share = self._seen.planning / self._seen.tokens
            if share < self.least:
                raise UserError(
                    f"shaper {self.name}: {share:.3%} of the first batch's {self._seen.tokens} tokens are planning, fewer than "
                    f"{self.least:.1%}; extract grams from solutions of this task and language, or set least: 0 to watch only"
                )

    def _gather(self, group: Group) -> None:
        for rollout, score in zip(group.rollouts, group.scores, strict=True):
            if score.invalid or self.column not in score.extras:
                continue
            marks = np.asarray(score.extras[self.column], dtype=bool)
            seen = self._seen
            seen.texts += 1
            seen.planning, seen.tokens = seen.planning + int(marks.sum()), seen.tokens + len(marks)
            logps = _logps(rollout)
            for place, chosen in enumerate((marks, ~marks)):
                seen.logps[place] += float(logps[chosen].sum())
            right = score.success is not None and score.success >= 1
            for gram, n in score.extras[self.name]["occurrences"].items():
                number = self._number[gram]
                seen.all[number] = seen.all.get(number, 0) + n
                if right:
                    seen.right[number] = seen.right.get(number, 0) + n

    def metrics(self) -> dict[str, float]:
        """Of the rounds since the last call."""
        seen, self._seen = self._seen, _Seen()
        if not seen.tokens:
            return {}
        found = summed(by_unit(seen.all, self.grams, self.unit), seen.texts, self.subsample, seen.step)
        right = summed(by_unit(seen.right, self.grams, self.unit), seen.texts, self.subsample, seen.step)
        out = {
            "semantic_entropy": found.value,
            "semantic_entropy_right": right.value,
            "occurrences": float(found.count),
            "planning_share": seen.planning / seen.tokens,
        }
        for name, entropy in (("semantic_entropy_fixed", found.fixed), ("semantic_entropy_right_fixed", right.fixed)):
            out |= {} if entropy is None else {name: entropy}
        sizes = (seen.planning, seen.tokens - seen.planning)
        for name, total, size in zip(("planning", "execution"), seen.logps, sizes):
            out |= {f"perplexity_{name}": math.exp(min(-total / size, 700.0))} if size else {}
        return {f"hicra/{name}": value for name, value in (out | _by_entropy(seen.entropies)).items()}

    def state_dict(self) -> dict[str, Any]:
        """Which grams these are, and whether the first batch was looked at."""
        return {"grams": self.grams.fingerprint, "probed": self._probed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`. Raises UserError where the run was started with other grams."""
        if state["grams"] != self.grams.fingerprint:
            raise UserError(
                f"shaper {self.name}: the run was started with other grams ({state['grams']}, now {self.grams.fingerprint}); "
                "semantic entropy compares only over one set: put the old file back, or start a new run"
            )
        self._probed = bool(state["probed"])


@dataclasses.dataclass
class _Seen:
    """What the rounds of one step hold. logps: sums of planning and of execution tokens. all, right: number of a gram -> occurrences."""

    step: int = 0
    texts: int = 0
    tokens: int = 0
    planning: int = 0
    logps: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0])
    all: dict[int, int] = dataclasses.field(default_factory=dict)
    right: dict[int, int] = dataclasses.field(default_factory=dict)
    entropies: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)


def _by_entropy(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means of planning and execution tokens, and how far planning and high entropy are the same tokens."""
    if not found:
        return {}
    entropy, marks = (np.concatenate(parts) for parts in zip(*found))
    kinds = {"planning": marks, "execution": ~marks}
    out = {f"entropy_{name}": float(entropy[chosen].mean()) for name, chosen in kinds.items() if chosen.any()}
    if not marks.any():
        return out
    high = np.zeros(len(entropy), dtype=bool)
    high[np.argsort(-entropy, kind="stable")[: max(1, round(HIGH * len(entropy)))]] = True
    return out | {"high_that_plan": float(marks[high].mean()), "plan_that_is_high": float(high[marks].mean())}


def _logps(rollout: Rollout) -> np.ndarray:
    parts = [turn.logprobs[turn.loss_mask].astype(np.float64) for turn in rollout.turns]
    return np.concatenate(parts) if parts else np.zeros(0)


def _decoder(tokenizer: Any) -> Callable[[list[int]], str]:
    if isinstance(tokenizer, str):
        from burnish.models.load import load_tokenizer

        tokenizer = load_tokenizer(tokenizer)
    if not hasattr(tokenizer, "decode"):
        raise UserError(f"shaper hicra: tokenizer {tokenizer!r} is neither a folder or hub id nor an object with `decode`")
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


part = Hicra
"""The shaper `hicra`."""
