"""The engine's self-test: do a token's bits depend on its neighbours, on this machine, for this model, at this thread count?

Matrix libraries choose kernels by shape, and kernels may order their sums differently. The test runs the engine's own passes:
the same rows in other slots, beside other and longer rows, in steps with other row counts; the same prompts alone and packed
with others; attention over every rounded key length. What differs is not used; if even one fixed row count differs, the engine
runs in fast mode and says so.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch

from burnish.inference.attention import KEY_MULTIPLE, DecodePlan, PrefillPlan, Segment, as_positions, rounded_key_length
from burnish.inference.cache import Block, Cache
from burnish.inference.prefill import ALONE, Packing, Path, keep_size
from burnish.inference.support import Facts

ROW_COUNTS = (8, 16, 32, 64)
SMALL = 50_000_000  # parameters up to which every size is tested
CHUNKS = (512, 256, 128, 64, 32, 16)


@dataclasses.dataclass(frozen=True)
class Exactness:
    """ladder: row counts whose bits agree with each other (a single one: every step must have that many rows); empty: none.
    chunk: keys that one product may cover. packing: how prompts may share passes. why: what failed, if anything.
    """

    ladder: tuple[int, ...]
    chunk: int
    packing: Packing
    why: str = ""


def self_test(path: Path, facts: Facts, limit: int) -> Exactness:
    """Run the test for up to `limit` slots: about 2,000 tokens of forward pass, fewer sizes (and tokens) for larger models."""
    top = -(-limit // 8) * 8
    small = facts.parameters < SMALL
    smaller = [n for n in (ROW_COUNTS if small else ROW_COUNTS[:2]) if n < top]
    ids = _prompts(facts, [5, 19, 33, 7, 26, 11, 3, 16])
    blocks = [_prefill_alone(path, facts, row)[1] for row in ids]
    chunk = _key_chunk(blocks[0], facts)
    if chunk is None:
        return Exactness((), CHUNKS[-1], ALONE, "attention gives other bits where a neighbour's row is longer")
    reference = _decode(path, facts, blocks, ids, list(range(8)), top, chunk)
    if not torch.equal(reference, _decode(path, facts, blocks, ids, [(3 * i + 5) % top for i in range(8)], top, chunk, crowd=True)):
        return Exactness((), chunk, ALONE, f"a row's bits depend on its slot or its neighbours with {top} slots")
    ladder = [top]
    for n in smaller:
        places = [(5 * i + 2) % n for i in range(8)]
        if torch.equal(reference, _decode(path, facts, blocks, ids, places, n, chunk, crowd=True)):
            ladder.append(n)
    return Exactness(tuple(sorted(ladder)), chunk, _packing(path, facts, small))


def _prompts(facts: Facts, lengths: Sequence[int]) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    most = max(1, min(1000, facts.max_length - 4))
    return [torch.randint(0, facts.vocab, (min(n, most),), generator=generator).tolist() for n in lengths]


def _prefill_alone(path: Path, facts: Facts, ids: list[int]) -> tuple[torch.Tensor, Block]:
    positions = as_positions(list(range(len(ids))), facts.device)
    segment = Segment(0, len(ids), None, positions)
    keep = torch.tensor([len(ids) - 1] * keep_size(1), device=facts.device)
    logits = path.logits(torch.tensor(ids, device=facts.device), positions, PrefillPlan([segment]), keep, decode=False)
    return logits[0], segment.block()


def _decode(
    path: Path, facts: Facts, blocks: list[Block], ids: list[list[int]], places: list[int], rows: int, chunk: int, crowd: bool = False
) -> torch.Tensor:
    """Logits [steps, 8, V] of eight rows in these slots over three forced steps. crowd: other, longer rows fill the other slots."""
    cache = Cache(facts.device)
    cache.reserve(rows, 64)
    longest = min(150, facts.max_length - 4)
    filler = blocks[2]
    while filler.length < longest and crowd:
        filler = Block.join([filler, filler]).select(0, min(2 * filler.length, longest))
    for slot in range(rows):
        if crowd and slot not in places:
            cache.insert(slot, filler)
    for place, block in zip(places, blocks):
        cache.insert(place, block)
    tokens = torch.full((rows,), 1 if crowd else 0, dtype=torch.int64)
    out = []
    for step in range(3):
        positions = torch.from_numpy(cache.lengths[:rows].copy())
        for place, row in zip(places, ids):
            tokens[place] = row[step % len(row)]
        cache.reserve(rows, int(cache.lengths[:rows].max()) + 1)
        plan = DecodePlan(cache, rows, positions.to(facts.device), True, chunk)
        logits = path.logits(tokens.to(facts.device), positions.to(facts.device), plan, None, decode=True)
        out.append(logits[places])
        cache.lengths[:rows] += 1
    return torch.stack(out)


def _key_chunk(block: Block, facts: Facts) -> int | None:
    """The longest chunk for which keys behind a row's end change no bit, over every rounded length up to 1,024 keys."""
    kv_heads, _, dim = block.keys[0].shape
    most = min(1024, -(-facts.max_length // KEY_MULTIPLE) * KEY_MULTIPLE)
    group = max(1, facts.heads // kv_heads)
    return _key_chunk_for(kv_heads, group, dim, most, facts.dtype, str(facts.device), torch.get_num_threads())


@functools.lru_cache(maxsize=64)
def _key_chunk_for(kv_heads: int, group: int, dim: int, most: int, dtype: torch.dtype, device: str, threads: int) -> int | None:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    q, k, v = random(1, kv_heads * group, dim), random(1, kv_heads, dim), random(1, kv_heads, dim)
    cache = Cache(device)
    cache.insert(0, Block([random(kv_heads, most + 64, dim)], [random(kv_heads, most + 64, dim)], torch.arange(most + 64, device=device)))

    def attend(length: int, longest: int, chunk: int) -> torch.Tensor:
        cache.lengths[0] = length
        plan = DecodePlan(cache, 1, torch.tensor([length], device=device), True, chunk)
        plan.longest = longest  # as if a neighbour were this long
        return plan.attend(0, q, k, v, dim**-0.5, None, None)

    bases = [n for n in (1, 15, 63, 100, 127, 200, 255, 383, 500, 900) if n < most - 16]
    for chunk in CHUNKS:
        if all(torch.equal(attend(n, n + 1, chunk), attend(n, longer, chunk)) for n in bases for longer in _longer(n, most, group, dim)):
            return chunk
    return None


def _longer(n: int, most: int, group: int, dim: int) -> list[int]:
    start = rounded_key_length(n + 1, group, dim)
    near = list(range(start, min(start + 512, most) + 1, KEY_MULTIPLE))
    return near + list(range(start + 512, most + 1, 8 * KEY_MULTIPLE))


def _packing(path: Path, facts: Facts, small: bool) -> Packing:
    """Passes of 32, 64 ... 256 tokens where a prompt's bits are the same in all of them, at any place and beside any other."""
    sizes = (32, 64, 96, 128, 160, 192, 224, 256) if small else (64, 256)
    prompts = _prompts(facts, [5, 5, 19, 3])
    reference: list[torch.Tensor] | None = None
    for turn, size in enumerate(sizes):
        order = [(i + turn) % 4 for i in range(4)]
        others = max(0, size - sum(len(p) for p in prompts))
        got = _prefill_packed(path, facts, prompts, order, size, others if turn % 2 else 0, 1 << (3 + turn % 6))
        reference = reference or got
        if not all(torch.equal(a, b) for a, b in zip(reference, got)):
            return ALONE
    return Packing(chunk=256, budget=256, sizes=sizes)


def _prefill_packed(
    path: Path, facts: Facts, prompts: list[list[int]], order: list[int], size: int, others: int, keep_rows: int
) -> list[torch.Tensor]:
    """Per prompt: its last token's logits and its keys and values in the last layer, one flat tensor."""
    ids: list[int] = _prompts(facts, [max(1, others)])[0][:others]
    segments = [Segment(0, len(ids), None, as_positions(list(range(len(ids))), facts.device))] if ids else []
    positions = list(range(len(ids)))
    mine: dict[int, Segment] = {}
    for i in order:
        mine[i] = Segment(len(ids), len(ids) + len(prompts[i]), None, as_positions(list(range(len(prompts[i]))), facts.device))
        ids, positions = ids + prompts[i], positions + list(range(len(prompts[i])))
    padding = [0] * (size - len(ids))
    ends = [mine[i].end - 1 for i in range(4)]
    keep = torch.tensor(ends + ends[:1] * (keep_rows - 4), device=facts.device)
    ids_tensor = torch.tensor(ids + padding, device=facts.device)
    plan = PrefillPlan(segments + list(mine.values()))
    logits = path.logits(ids_tensor, as_positions(positions + padding, facts.device), plan, keep, decode=False)
    out = []
    for i in range(4):
        block = mine[i].block()
        out.append(torch.cat([logits[i].flatten(), block.keys[-1].flatten(), block.values[-1].flatten()]))
    return out
