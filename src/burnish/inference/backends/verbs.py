"""SubmitEngine: the session verbs that plain sampling needs, on any backend, so that thinkers and chats need not know which one it is."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from burnish.inference.backends.protocol import Backend, Chunk, Request, turn_of
from burnish.inference.handle import TokenEvent
from burnish.inference.sampling import child_seed
from burnish.records import Sampling, StopReason, Turn
from burnish.runs.errors import UserError


@dataclasses.dataclass(eq=False)
class Row:
    """A prompt that waits to be decoded: nothing is sent before `decode`; `output_ids` grows as tokens come."""

    ids: list[int]
    sampling: Sampling
    seed: int
    max_new_tokens: int | None
    agent: str
    forks: int = 0
    decoded: bool = False
    output_ids: list[int] = dataclasses.field(default_factory=list)


class SubmitEngine:
    """`prefill`, `fork` (of a row that is not decoded yet), `decode` and `free`, as `AsyncEngine` has them.

    Other verbs raise UserError naming the capability they would need. A prompt's forks are requests of their own: whether the prompt is
    computed once for all of them is the backend's business.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def prefill(
        self,
        ids: Sequence[int] | None = None,
        *,
        embeds: Any = None,
        sampling: Sampling | None = None,
        seed: int = 0,
        max_new_tokens: int | None = None,
        agent: str = "policy",
        extras: dict[str, Any] | None = None,
        replay: dict[str, np.ndarray] | None = None,
    ) -> Row:
        """A row with this prompt. Raises UserError for embeddings and for what only the model in this process could read."""
        if embeds is not None or extras or replay:
            self._refuse("embeddings, extras or replay arrays", "inject")
        if not ids:
            raise UserError("prefill: the prompt is empty; give at least one token id")
        return Row([int(token) for token in ids], sampling or Sampling(), seed, max_new_tokens, agent)

    def fork(self, row: Row, n: int, seeds: Sequence[int] | None = None) -> list[Row]:
        """n rows of the same prompt. seeds: one each (None: derived, as the built-in engine does)."""
        if row.decoded:
            self._refuse("fork a row that was decoded", "fork")
        if seeds is not None and len(seeds) != n:
            raise UserError(f"fork: {len(seeds)} seeds for {n} forks")
        found = [child_seed(row.seed, row.forks + index) for index in range(n)] if seeds is None else seeds
        row.forks += n
        return [dataclasses.replace(row, seed=one, forks=0, output_ids=[]) for one in found]

    async def decode(self, row: Row, max_new_tokens: int | None = None, stream: Callable[[TokenEvent], Any] | None = None) -> Turn:
        """The row's turn when it stops. stream: called with each token; a true value from it ends the turn ("stop")."""
        if row.decoded:
            self._refuse("go on with a row that was decoded", "inject")
        row.decoded = True
        limit = row.max_new_tokens if max_new_tokens is None else max_new_tokens
        request = Request(row.ids, 1, row.sampling, limit, (row.seed,))
        chunks: list[Chunk] = []
        async with contextlib.aclosing(self.backend.submit(request)) as coming:  # type: ignore[type-var]
            async for chunk in coming:
                kept = self._show(row, chunk, stream)
                chunks.append(chunk if kept is None else kept)
                if kept is not None:
                    break
        turn = turn_of(request, chunks)
        turn.agent = row.agent
        return turn

    def _show(self, row: Row, chunk: Chunk, stream: Callable[[TokenEvent], Any] | None) -> Chunk | None:
        """Hands a chunk's tokens on; where the reader has enough, the chunk as far as it was read."""
        for place, (token, logprob) in enumerate(zip(chunk.token_ids, chunk.logprobs, strict=True)):
            row.output_ids.append(token)
            last = chunk.stop is not None and place == len(chunk.token_ids) - 1
            event = TokenEvent(row, token, logprob, StopReason(chunk.stop) if last else None)  # type: ignore[arg-type]
            if stream is not None and stream(event) and not last:
                cut = place + 1
                return dataclasses.replace(chunk, token_ids=chunk.token_ids[:cut], logprobs=chunk.logprobs[:cut], stop=StopReason.STOP)
        return None

    def free(self, row: Row) -> None:
        """Nothing is held for a row."""

    def cancel(self, row: Row) -> None:
        """Cancel the task that waits in `decode`: that cancels the request."""

    def append(self, row: Row, ids: Sequence[int]) -> None:
        """Raises UserError: a prompt is sent whole."""
        self._refuse("append tokens to a row", "inject")

    def merge(self, rows: Sequence[Row], layout: Any = None, position: int | None = None) -> Row:
        """Raises UserError."""
        raise self._lacks("merge rows", "fork")

    def refresh(self, version: int) -> None:
        """See `Backend.refresh`."""
        self.backend.refresh(version)

    def _refuse(self, what: str, capability: str) -> None:
        raise self._lacks(what, capability)

    def _lacks(self, what: str, capability: str) -> UserError:
        name = type(self.backend).__name__
        return UserError(f"backend {name} cannot {what} here: that needs the capability {capability}; use rl.backend: built_in")
