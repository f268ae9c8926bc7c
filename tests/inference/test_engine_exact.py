"""Exact mode: a token's id and log-prob bits do not depend on neighbours, slots or arrival order."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from burnish.inference import exactness
from burnish.inference.engine import Engine
from burnish.inference.modules import ModulePath
from burnish.models import tiny
from burnish.records import Sampling
from burnish.runs.errors import UserError

SETTINGS = [Sampling(), Sampling(temperature=0.6), Sampling(top_k=20), Sampling(temperature=0), Sampling(top_p=0.9, bans=(7,))]


def requests(n: int, seed: int = 0):
    """(prompt, sampling, seed, tokens, tokens to force half-way) of n rows."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        prompt = rng.integers(0, 250, size=int(rng.integers(1, 90))).tolist()
        forced = rng.integers(0, 250, size=int(rng.integers(1, 6))).tolist() if i % 3 == 0 else []
        out.append((prompt, SETTINGS[i % len(SETTINGS)], int(rng.integers(2**40)), int(rng.integers(10, 110)), forced))
    return out


def run(engine: Engine, rows, order: list[int], rng: random.Random, noise: bool):
    """Ids and log-probs of every row, with rows arriving in this order a few at a time, among rows that come and are cancelled."""
    todo, live, out, strangers = list(order), {}, {}, []
    while todo or live:
        for _ in range(rng.randint(0, 3 if live else 4)):
            if todo:
                prompt, sampling, seed, budget, forced = rows[todo[0]]
                handle = engine.prefill(prompt, sampling=sampling, seed=seed)
                engine.start([handle], budget)
                live[todo.pop(0)] = [handle, forced]
        if noise and rng.random() < 0.2:
            stranger = engine.prefill([rng.randrange(250) for _ in range(rng.randint(1, 200))], seed=rng.randrange(99))
            engine.start([stranger], 300)
            strangers.append(stranger)
        if strangers and rng.random() < 0.2:
            engine.cancel(strangers.pop(rng.randrange(len(strangers))))
        engine.step()
        for key, (handle, forced) in list(live.items()):
            if not handle.running and forced:
                engine.append(handle, forced)
                engine.start([handle], 10)
                live[key][1] = []
            elif not handle.running:
                turn = handle.turn()
                out[key] = (
                    turn.output_ids,
                    turn.logprobs.tobytes(),
                    None if turn.sample_logprobs is None else turn.sample_logprobs.tobytes(),
                )
                engine.free(handle)
                del live[key]
    for stranger in strangers:
        engine.cancel(stranger)
    return out


def check(model, n: int, path: str = "walker", **other) -> int:
    rows = requests(n)
    first = Engine(model, eos_ids=[10_000], slots=64)
    second = Engine(model, eos_ids=[10_000], **({"slots": 24} | other))
    assert first.mode == second.mode == "exact"
    if path == "modules":
        first._runner, second._runner = ModulePath(model, first.facts), ModulePath(model, second.facts)
    one = run(first, rows, list(range(n)), random.Random(0), noise=False)
    order = list(range(n))
    random.Random(1).shuffle(order)
    two = run(second, rows, order, random.Random(2), noise=True)
    differing = [key for key in one if one[key] != two[key]]
    assert not differing, f"rows {differing[:5]} of {n} differ"
    return sum(len(ids) for ids, _, _ in one.values())


@pytest.mark.parametrize("kind", sorted(tiny.KINDS))
def test_bits_do_not_depend_on_company(kind):
    model = tiny.make(kind, window=20 if kind in tiny.WINDOWED else None)
    assert check(model, 50) > 2_000


def test_the_models_own_modules_are_exact_too():
    check(tiny.make("qwen3"), 25, path="modules")


@pytest.mark.slow
def test_a_hundred_thousand_tokens():
    assert check(tiny.make("qwen3", layers=2), 1_750) > 100_000


def test_one_fixed_row_count_where_counts_differ(monkeypatch):
    """A machine whose bits depend on the row count: only the largest is used, and idle slots are computed."""
    monkeypatch.setattr(exactness, "ROW_COUNTS", ())
    model = tiny.make("llama")
    engine = Engine(model, eos_ids=[10_000], slots=16)
    assert engine.mode == "exact"
    engine.decode([engine.prefill([1, 2, 3])], max_new_tokens=4)
    assert engine.stats["row_steps"] == 16 * engine.stats["steps"]


class Leaky(torch.nn.Module):
    """A projection whose bits depend on the other rows of the batch."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + 1e-6 * x.sum(dim=(0, 1))[: x.shape[-1]].mean()


def test_a_failed_self_test_means_fast_mode_and_says_why():
    model = tiny.make("llama")
    model.model.layers[0].mlp = Leaky(model.model.layers[0].mlp)
    engine = Engine(model)
    assert engine.mode == "fast"
    assert "slot" in engine.why
    assert len(engine.decode([engine.prefill([1, 2])], max_new_tokens=3)[0].output_ids) == 3
    with pytest.raises(UserError, match="exact mode is not possible"):
        Engine(model, mode="exact")


def test_fast_mode_agrees_to_rounding():
    model = tiny.make("mistral", window=16)
    exact, fast = Engine(model, eos_ids=[10_000]), Engine(model, eos_ids=[10_000], mode="fast", slots=5)
    assert (exact.mode, fast.mode) == ("exact", "fast")
    prompts = [[i, 3, 9] * (1 + i % 7) for i in range(12)]
    for prompt in prompts:
        a = exact.decode([exact.prefill(prompt, seed=3)], max_new_tokens=20)[0]
        b = fast.decode([fast.prefill(prompt, seed=3)], max_new_tokens=20)[0]
        assert a.output_ids == b.output_ids
        assert np.abs(a.logprobs - b.logprobs).max() < 1e-5
