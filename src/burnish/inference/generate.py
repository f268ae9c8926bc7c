"""Completions for a list of prompts: each prompt prefilled once, forked, decoded with continuous refill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from burnish.inference.engine import Engine
from burnish.inference.handle import Handle, TokenEvent
from burnish.inference.sampling import child_seed
from burnish.records import Sampling, Turn
from burnish.runs.errors import UserError


def generate(
    engine: Engine | Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | None = None,
    n: int = 1,
    max_new_tokens: int | None = None,
    seeds: Sequence[Sequence[int]] | int = 0,
    stream: Callable[[TokenEvent, int, int], None] | None = None,
) -> list[list[Turn]]:
    """n completions of each prompt: a list of n turns for each, in the prompts' order.

    engine: an Engine, or a model (an engine is then made for this call). prompts: token ids. seeds: one list of n for each prompt, or
    one number they are all derived from. stream: called with every token as it comes: (event, prompt index, completion index).
    Prompts enter in batches, so that the cache of prompts that wait is never larger than twice the slots.
    """
    engine = engine if isinstance(engine, Engine) else Engine(engine)
    sampling = sampling or Sampling()
    if n < 1:
        raise UserError(f"generate: n={n}; it must be at least 1")
    table = [[child_seed(child_seed(seeds, i), j) for j in range(n)] for i in range(len(prompts))] if isinstance(seeds, int) else seeds
    if len(table) != len(prompts) or any(len(row) != n for row in table):
        raise UserError(f"generate: seeds must be {len(prompts)} lists of {n}")
    places: dict[int, tuple[int, int]] = {}
    turns: list[list[Turn | None]] = [[None] * n for _ in prompts]
    running: dict[int, Handle] = {}
    next_prompt = 0
    try:
        while next_prompt < len(prompts) or running:
            fresh: list[tuple[int, Handle]] = []
            while next_prompt < len(prompts) and len(running) + len(fresh) * n < 2 * engine.slots:
                fresh.append((next_prompt, engine.prefill(prompts[next_prompt], sampling=sampling, max_new_tokens=max_new_tokens)))
                next_prompt += 1
            engine.settle([handle for _, handle in fresh])
            started: list[Handle] = []
            for index, prompt in fresh:
                forks = engine.fork(prompt, n, table[index])
                engine.free(prompt)
                started += forks
                places.update((id(fork), (index, j)) for j, fork in enumerate(forks))
            engine.start(started)
            running.update((id(fork), fork) for fork in started)
            if stream is not None:
                for event in engine.step():
                    if id(event.handle) in places:
                        stream(event, *places[id(event.handle)])
            else:
                engine.step()
            for key in [key for key, handle in running.items() if not handle.running]:
                handle = running.pop(key)
                index, j = places[key]
                turns[index][j] = handle.turn()
                engine.free(handle)
    finally:
        for handle in running.values():
            engine.cancel(handle)
    return [[turn for turn in row if turn is not None] for row in turns]
