"""Backend: `submit(request)` gives a stream of chunks, with declared capabilities; and the refusals of those that lack one."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from burnish.inference.sampling import child_seed
from burnish.records import Sampling, StopReason, Turn
from burnish.runs.errors import UserError
from burnish.runs.parts import make

PACKAGE = "burnish.inference.backends"
CAPABILITIES = {
    "token_ids": "takes prompts as token ids and gives the ids it drew",
    "logprobs": "gives the policy's own log-prob of every drawn token, at the sampling temperature",
    "inject": "takes forced tokens in the middle of a row and scores them",
    "load_weights": "goes on with new weights when it is told",
    "fork": "copies a row in the middle, and merges rows",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """n completions of one prompt.

    prompt: token ids. sampling: with its stop strings and stop ids. max_new_tokens: most tokens of each (None: as far as the context
    goes). seeds: one for each completion; () derives them. Raises UserError where they do not fit together.
    """

    prompt: Sequence[int]
    n: int = 1
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    max_new_tokens: int | None = None
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.n < 1 or not len(self.prompt):
            raise UserError(f"request: n={self.n} completions of {len(self.prompt)} prompt tokens; both must be at least 1")
        if not self.seeds:
            object.__setattr__(self, "seeds", tuple(child_seed(0, index) for index in range(self.n)))
        if len(self.seeds) != self.n:
            raise UserError(f"request: {len(self.seeds)} seeds for {self.n} completions")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some tokens of completion `index`, in order.

    logprobs: one for each token, in nats: the policy's own at the sampling temperature (at 1 where that is 0).
    version: of the weights that drew them. stop: a `StopReason` value on the completion's last chunk (which may be empty), else None.
    """

    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    version: int = 0
    stop: str | None = None


class Backend(Protocol):
    """What samples. `capabilities`: names from CAPABILITIES. Settings are the arguments of its constructor, which loads nothing."""

    capabilities: frozenset[str]

    def check(self, sampling: Sampling) -> None:
        """Raises UserError for what is missing here or cannot be sampled so; called before anything loads."""

    def bind(self, policy: Any) -> None:
        """Told once which `models.policy.Policy` it samples for."""

    def refresh(self, version: int) -> None:
        """The policy's weights have changed: sample with them from now on, as `version`. No request is under way."""

    def submit(self, request: Request) -> AsyncIterator[Chunk]:
        """The request's chunks as they come, those of its completions in any order. Closing the stream cancels what still runs."""

    def close(self) -> None:
        """Gives memory, files and processes back."""


def make_backend(spec: Any) -> Any:
    """The backend of that name (`file.py:name` for your own), or the object given. Raises UserError for what is none."""
    backend = make(PACKAGE, spec)
    missing = [name for name in ("capabilities", "check", "bind", "refresh", "submit", "close") if not hasattr(backend, name)]
    if missing:
        raise UserError(f"rl.backend {label(spec)} is no backend: it has no `{missing[0]}` (see burnish.inference.backends.protocol)")
    if unknown := sorted(set(backend.capabilities) - set(CAPABILITIES)):
        raise UserError(f"rl.backend {label(spec)} declares the capability {unknown[0]!r}; known: {', '.join(CAPABILITIES)}")
    return backend


def require(backend: Any, spec: Any, needed: Iterable[str], who: str) -> None:
    """Raises UserError naming the capabilities that `who` needs and the backend lacks."""
    lacking = [name for name in CAPABILITIES if name in set(needed) - set(backend.capabilities)]
    if lacking:
        what = "; ".join(f"{name}: {CAPABILITIES[name]}" for name in lacking)
        raise UserError(f"rl.backend {label(spec)} lacks {', '.join(lacking)}, which {who} needs ({what}); use rl.backend: built_in")


def label(spec: Any) -> str:
    """How messages name a backend."""
    return repr(spec.get("name", spec) if isinstance(spec, dict) else spec if isinstance(spec, str) else type(spec).__name__)


async def collect(backend: Backend, request: Request) -> list[Turn]:
    """All completions of a request as turns, by index."""
    chunks: list[list[Chunk]] = [[] for _ in range(request.n)]
    async with contextlib.aclosing(backend.submit(request)) as stream:  # type: ignore[type-var]
        async for chunk in stream:
            chunks[chunk.index].append(chunk)
    return [turn_of(request, parts) for parts in chunks]


def turn_of(request: Request, chunks: Sequence[Chunk]) -> Turn:
    """One completion's chunks as a turn. Raises UserError where the stream ended without a stop reason."""
    if not chunks or chunks[-1].stop is None:
        raise UserError("the backend ended a completion without saying why; its last chunk must have a stop reason")
    return Turn(
        context_ids=list(request.prompt),
        output_ids=[token for chunk in chunks for token in chunk.token_ids],
        logprobs=np.array([value for chunk in chunks for value in chunk.logprobs], dtype=np.float32),
        version=np.array([chunk.version for chunk in chunks for _ in chunk.token_ids], dtype=np.int64),
        sampling=request.sampling,
        stop=str(StopReason(chunks[-1].stop)),
    )


async def merged(streams: Sequence[AsyncIterator[Chunk]]) -> AsyncIterator[Chunk]:
    """The chunks of several streams as they come. Closing this one, or an error in one of them, cancels them all."""
    queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()

    async def pump(stream: AsyncIterator[Chunk]) -> None:
        try:
            async for chunk in stream:
                queue.put_nowait(chunk)
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.ensure_future(pump(stream)) for stream in streams]
    left = len(tasks)
    try:
        while left:
            found = await queue.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
