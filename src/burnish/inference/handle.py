"""A handle: one row of tokens in a session, what is known of them, and where its keys and values are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from burnish.inference.cache import Block
from burnish.records import Sampling, StopReason, Turn


class TokenEvent(NamedTuple):
    """One token of one handle, as `step()` returns it. stop: why the turn ended with this token, or None."""

    handle: Handle
    token: int
    logprob: float
    stop: StopReason | None


@dataclasses.dataclass(eq=False)
class Handle:
    """One row. Its fields are for reading; the engine's verbs change them.

    ids: every token so far: prompt, sampled, forced. logprobs, sample_logprobs, injected, versions: one entry for each token after
    the first `scored_from`. boundary: where the current turn's output begins. fed: how many tokens the cache holds.
    prompt: the block that this row and its siblings were forked with; while it is the row's own, fast mode keeps it once for all of them.
    offset: a token's position is its index plus this. logits: [V] for the next token, where all tokens are fed.
    state: "paused" (waiting for the caller), "waiting" (for a slot), "live" (one token each step), "freed".
    extras: anything a model's `batch_key(handle)` reads; forks share it. replay: named arrays handed on to every Turn.
    merged: after `merge`, positions and layout segments of the merged tokens: int64 [2, n].
    """

    number: int
    ids: list[int]
    sampling: Sampling
    seed: int
    agent: str
    max_new_tokens: int | None
    extras: dict[str, Any]
    replay: dict[str, np.ndarray]
    scored_from: int = 0
    boundary: int = 0
    fed: int = 0
    offset: int = 0
    state: str = "paused"
    stop: StopReason | None = None
    slot: int | None = None
    block: Block | None = None
    prompt: Block | None = None
    own_cache: Any = None
    logits: torch.Tensor | None = None
    embeds: torch.Tensor | None = None
    logprobs: list[float] = dataclasses.field(default_factory=list)
    sample_logprobs: list[float] = dataclasses.field(default_factory=list)
    injected: list[bool] = dataclasses.field(default_factory=list)
    versions: list[int] = dataclasses.field(default_factory=list)
    limit: int = 0  # the turn ends when len(ids) reaches this
    run_start: int = 0  # where the tokens sampled since the last start begin
    ends: frozenset[int] = frozenset()
    forks: int = 0
    logits_version: int | None = None  # of the weights that computed `logits`; they may have changed before a token is drawn
    double: bool = False
    unscored: bool = False  # forced tokens wait for a pass that scores them
    merged: np.ndarray | None = None
    settle: Callable[[Handle], None] | None = None  # the engine's, to score what is unscored

    @property
    def output_ids(self) -> list[int]:
        """Tokens of the current turn, forced ones included."""
        return self.ids[self.boundary :]

    @property
    def unfed(self) -> int:
        """Tokens that the cache does not hold yet."""
        return len(self.ids) - self.fed

    @property
    def running(self) -> bool:
        """True while the engine owes it tokens."""
        return self.state in ("waiting", "live")

    def new_turn(self) -> None:
        """End the current turn: everything so far becomes the next turn's context."""
        self.boundary = len(self.ids)
        self.stop = None

    def turn(self) -> Turn:
        """The turn since the last boundary (`prefill`, or `new_turn`). Forced tokens that no pass has scored yet are scored now.

        After a merge, replay holds `positions` (of context and output) and `segments` (the layout entry each merged token came from).
        """
        if self.unscored and self.settle is not None:
            self.settle(self)
        cut = slice(self.boundary - self.scored_from, None)
        dtype = np.float64 if self.double else np.float32
        return Turn(
            context_ids=self.ids[: self.boundary],
            output_ids=self.ids[self.boundary :],
            logprobs=np.array(self.logprobs[cut], dtype=dtype),
            injected=np.array(self.injected[cut], dtype=bool),
            version=np.array(self.versions[cut], dtype=np.int64),
            sample_logprobs=np.array(self.sample_logprobs[cut], dtype=dtype) if self.sampling.truncates else None,
            sampling=self.sampling,
            agent=self.agent,
            stop=str(self.stop or StopReason.STOP),
            replay=dict(self.replay) | self._positions(),
        )

    def record(self, token: int, logprob: float, sample_logprob: float, injected: bool, version: int) -> None:
        """Add one token with what is known of it."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.sample_logprobs.append(sample_logprob)
        self.injected.append(injected)
        self.versions.append(version)

    def copy(self, number: int, seed: int) -> Handle:
        """A paused handle with the same tokens, sharing the (never changed) block."""
        return dataclasses.replace(
            self,
            number=number,
            seed=seed,
            ids=list(self.ids),
            logprobs=list(self.logprobs),
            sample_logprobs=list(self.sample_logprobs),
            injected=list(self.injected),
            versions=list(self.versions),
            replay=dict(self.replay),
            state="paused",
            slot=None,
            forks=0,
        )

    def _positions(self) -> dict[str, np.ndarray]:
        """The positions of all tokens, where they are not simply 0, 1, 2 ... (after a merge)."""
        if self.merged is None:
            return {}
        rest = np.arange(self.merged.shape[1], len(self.ids), dtype=np.int64) + self.offset
        return {"positions": np.concatenate([self.merged[0], rest]), "segments": self.merged[1]}
