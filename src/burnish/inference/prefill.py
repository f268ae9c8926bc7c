"""Feeding the tokens that the cache does not hold yet: prompts and forced tokens, packed into passes.

Each row is cut into chunks by its own length alone. In exact mode chunks of several rows share a pass only where the engine's
self-test has shown that a token's bits do not depend on the pass's size and the token's place in it (`Packing.sizes`);
otherwise each chunk runs alone. Attention always runs row by row at the row's own shape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from burnish.inference.attention import PrefillPlan, Segment, as_positions
from burnish.inference.handle import Handle
from burnish.inference.modules import ModulePath
from burnish.inference.sampling import scores
from burnish.inference.support import Facts, unwrapped
from burnish.inference.walker import WalkerPath
from burnish.runs.errors import UserError

Path = ModulePath | WalkerPath
KEEP_LEAST = 8  # wanted logits are padded to a power of two, at least this: the head's product has few shapes, never a small odd one


@dataclasses.dataclass(frozen=True)
class Packing:
    """chunk: most tokens of one row in a pass. budget: most tokens of a pass. sizes: pass lengths that may be used (padded up to);
    None: any length. alone: one row in each pass, unpadded.
    """

    chunk: int
    budget: int
    sizes: tuple[int, ...] | None = None
    alone: bool = False

    def padded(self, tokens: int) -> int:
        """Length of a pass with this many tokens."""
        if self.alone or self.sizes is None:
            return tokens
        return next((size for size in self.sizes if size >= tokens), tokens)


FAST = Packing(chunk=512, budget=2048)
ALONE = Packing(chunk=256, budget=256, alone=True)


@dataclasses.dataclass
class _Work:
    handle: Handle
    start: int  # index of the first token of this chunk in handle.ids
    end: int


def feed(handles: Sequence[Handle], path: Path, facts: Facts, packing: Packing) -> int:
    """Feed every unfed token of these handles (none is in a slot). Each gets its block and the logits of its next token;
    forced tokens get their log-probs. Returns the number of tokens fed.
    """
    todo = [_Work(h, h.fed, len(h.ids)) for h in handles]
    total = sum(work.end - work.start for work in todo)
    for work in list(todo):
        if work.handle.embeds is not None:
            todo.remove(work)
            _feed_embeds(work, path, facts)
    while todo:
        chunks = [_Work(w.handle, w.start, min(w.start + packing.chunk, w.end)) for w in todo]
        for batch in _packed(chunks, packing):
            _pass(batch, path, facts, packing.padded(sum(c.end - c.start for c in batch)))
        todo = [_Work(w.handle, w.handle.fed, w.end) for w in todo if w.handle.fed < w.end]
    return total


def _packed(chunks: list[_Work], packing: Packing) -> list[list[_Work]]:
    """Chunks in order, a new pass where the next one would not fit."""
    batches: list[list[_Work]] = []
    used = 0
    for chunk in chunks:
        size = chunk.end - chunk.start
        if not batches or packing.alone or used + size > packing.budget:
            batches.append([])
            used = 0
        batches[-1].append(chunk)
        used += size
    return batches


def _pass(batch: list[_Work], path: Path, facts: Facts, length: int) -> None:
    device = facts.device
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    for work in batch:
        handle = work.handle
        places = range(work.start + handle.offset, work.end + handle.offset)
        segments.append(Segment(len(ids), len(ids) + len(places), handle.block, as_positions(list(places), device)))
        ids.extend(handle.ids[work.start : work.end])
        positions.extend(places)
    padding = [0] * (length - len(ids))
    keep, owners = _wanted(batch, segments)
    keep += [keep[0]] * (keep_size(len(keep)) - len(keep))
    logits = path.logits(
        torch.tensor(ids + padding, device=device),
        torch.tensor(positions + padding, device=device),
        PrefillPlan(segments),
        torch.tensor(keep, device=device),
        decode=False,
    )
    _finish(batch, segments, logits, owners, facts, path)


def _feed_embeds(work: _Work, path: Path, facts: Facts) -> None:
    """A prompt given as embeddings: one pass of its own."""
    handle = work.handle
    positions = as_positions(list(range(work.start + handle.offset, work.end + handle.offset)), facts.device)
    segment = Segment(0, work.end - work.start, None, positions)
    embeds = handle.embeds
    assert embeds is not None
    if embeds.shape[0] < work.end:
        rest = torch.tensor(handle.ids[embeds.shape[0] : work.end], device=facts.device)
        embeds = torch.cat([embeds, path.embed(rest).to(embeds.dtype)])
    keep, owners = _wanted([work], [segment])
    keep += [keep[0]] * (keep_size(len(keep)) - len(keep))
    kept = torch.tensor(keep, device=facts.device)
    logits = path.logits(None, positions, PrefillPlan([segment]), kept, decode=False, embeds=embeds)
    _finish([work], [segment], logits, owners, facts, path)
    handle.embeds = None


def keep_size(n: int) -> int:
    """The number of rows the head is given where n are wanted."""
    return max(KEEP_LEAST, 1 << (n - 1).bit_length())


def _wanted(batch: list[_Work], segments: list[Segment]) -> tuple[list[int], list[tuple[Handle, int]]]:
    """Indices in the pass whose logits are wanted, and for each the (handle, index of the token they predict)."""
    keep: list[int] = []
    owners: list[tuple[Handle, int]] = []
    for work, segment in zip(batch, segments):
        handle = work.handle
        for index in range(work.start, work.end):
            following = index + 1
            forced = handle.scored_from <= following < len(handle.ids) and handle.injected[following - handle.scored_from]
            # The last token of every chunk, too: a later chunk's first token may be forced, and the row's last predicts the next.
            if forced or following == work.end:
                keep.append(segment.start + index - work.start)
                owners.append((handle, following))
    return keep, owners


def _finish(
    batch: list[_Work], segments: list[Segment], logits: torch.Tensor, owners: list[tuple[Handle, int]], facts: Facts, path: Path
) -> None:
    # A model that is told each pass's key may let the rows of that key skip layers, always the same for one row.
    may_skip = isinstance(path, ModulePath) and hasattr(unwrapped(path.model), "begin_batch")
    for work, segment in zip(batch, segments):
        if len(segment.keys) != facts.layers:
            if not (may_skip and segment.keys):
                raise UserError(f"{facts.name} does not use transformers' attention interface in all its layers; it cannot be served")
            segment.fill(facts.layers)
        work.handle.block = segment.block()
        work.handle.fed = work.end
        work.handle.unscored &= work.end < len(work.handle.ids)
    forced = []
    for row, (handle, following) in enumerate(owners):
        if following == len(handle.ids):
            handle.logits = logits[row].clone()
        elif following >= handle.scored_from and handle.injected[following - handle.scored_from]:
            forced.append((row, handle, following))
    if forced:
        score_forced(logits[[row for row, _, _ in forced]], [(handle, index) for _, handle, index in forced])


def score_forced(logits: torch.Tensor, tokens: list[tuple[Handle, int]]) -> None:
    """Write the log-probs of forced tokens: logits [n, V] predict the token at `index` of each handle."""
    ids = torch.tensor([handle.ids[index] for handle, index in tokens], device=logits.device)
    heat = [handle.sampling.temperature for handle, _ in tokens]
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    temperature = torch.tensor(heat, device=logits.device, dtype=dtype)
    for (handle, index), value in zip(tokens, scores(logits, ids, temperature).tolist()):
        handle.logprobs[index - handle.scored_from] = value
        handle.sample_logprobs[index - handle.scored_from] = value
