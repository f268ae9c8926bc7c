"""Fast mode keeps a forked prompt once for all its rows: the same tokens as exact mode, log-probs equal to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from burnish.inference import prompt_groups
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.inference.shared_prompt import SharedCache
from burnish.models import tiny
from burnish.records import Sampling

BIG = 10_000
FULL = sorted(set(tiny.KINDS) - set(tiny.WINDOWED))


@pytest.fixture(autouse=True)
def _always_worth_it(monkeypatch):
    monkeypatch.setattr(prompt_groups, "OVERHEAD", -BIG)


def prompts(sizes: list[int]) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 250, size=size).tolist() for size in sizes]


def close(model, turn):
    with torch.no_grad():
        logits = model(torch.tensor([turn.context_ids + turn.output_ids]), use_cache=False).logits[0, len(turn.context_ids) - 1 : -1]
    wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(turn.output_ids)[:, None])[:, 0].numpy()
    assert np.abs(wanted - turn.logprobs).max() < 1e-5


def groups_of(engine: Engine) -> prompt_groups.Groups:
    cache = engine._slots.cache
    assert isinstance(cache, SharedCache)
    return cache.groups


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize("slots", [None, 11])
def test_the_same_tokens_as_exact_mode(kind, slots):
    """Prompts of unequal lengths, and with 11 slots rows that come from the queue one by one beside others' siblings."""
    model = tiny.make(kind)
    exact, fast = Engine(model, eos_ids=[7]), Engine(model, eos_ids=[7], mode="fast", slots=slots)
    rows = prompts([64, 40, 64, 90, 5])
    one = [t for group in generate(exact, rows, n=4, max_new_tokens=70) for t in group]
    two = [t for group in generate(fast, rows, n=4, max_new_tokens=70) for t in group]
    for a, b in zip(one, two):
        assert a.output_ids == b.output_ids
        assert np.abs(a.logprobs - b.logprobs).max() < 1e-5
    for turn in two[::3]:
        close(model, turn)


def test_a_prompt_is_kept_once():
    model = tiny.make("qwen3")
    engine = Engine(model, eos_ids=[BIG], mode="fast", slots=16)
    for prompt in prompts([48, 48]):
        engine.start(engine.fork(engine.prefill(prompt), 8), 20)
    for _ in range(3):
        engine.step()
    groups = groups_of(engine)
    assert len(groups.place_of) == 16
    assert groups.stem_keys[0].shape[1:3] == (2, 48)
    assert groups.keys[0].shape[1:3] == (16, 64)
    assert not engine._slots.cache.plain.keys  # no row has keys of its own


def test_rows_leave_their_group_and_stay_right():
    """Append, fork, merge, pause and free of rows that share a prompt."""
    model = tiny.make("qwen3")
    engine = Engine(model, eos_ids=[BIG], mode="fast", slots=8)
    forks = engine.fork(engine.prefill(prompts([40])[0]), 6)
    engine.start(forks, 30)
    for _ in range(5):
        engine.step()
    assert len(groups_of(engine).place_of) == 6
    engine.append(forks[0], [1, 2, 3])
    child = engine.fork(forks[1], 1)[0]
    engine.start([child], 9)
    engine.cancel(forks[2])
    engine.pause(forks[3])
    for _ in range(3):
        engine.step()
    merged = engine.merge([forks[4], forks[5]], [(forks[4], 0, 45), (forks[5], 40, 45)])
    engine.append(merged, [9])
    assert len(engine.decode([merged], max_new_tokens=4)[0].output_ids) == 5
    engine.append(forks[3], [4])
    turns = [*engine.decode([forks[3]]), *engine.decode([engine.prefill([3, 4, 5])], max_new_tokens=50)]
    assert not engine.busy
    assert forks[0].turn().injected.tolist() == [False] * 5 + [True] * 3 + [False] * 25
    for turn in turns + [handle.turn() for handle in (*forks[:2], *forks[4:], child)]:
        close(model, turn)


def test_groups_of_unlike_sizes(monkeypatch):
    """Where sharing would cost more than it saves, rows take their prompt with them, in the middle of decoding."""
    monkeypatch.setattr(prompt_groups, "OVERHEAD", 200)
    model = tiny.make("llama")
    engine = Engine(model, eos_ids=[BIG], mode="fast", slots=20)
    first, second, third = (engine.prefill(prompt) for prompt in prompts([40, 60, 50]))
    rows = engine.fork(first, 8) + engine.fork(second, 2) + engine.fork(third, 8)
    for i, row in enumerate(rows):
        engine.start([row], 3 + 5 * i)
    engine.step()
    engine.step()
    held = groups_of(engine)
    assert len(held.place_of) == 16  # not the group of two
    while engine.busy:
        engine.step()
    assert not held.place_of
    for row in rows:
        close(model, row.turn())


@pytest.mark.parametrize("kind", sorted(tiny.WINDOWED))
def test_windows_take_the_plain_cache(kind):
    assert not isinstance(Engine(tiny.make(kind, window=20), mode="fast")._slots.cache, SharedCache)


def test_exact_mode_takes_the_plain_cache():
    assert not isinstance(Engine(tiny.make("qwen3"), mode="exact")._slots.cache, SharedCache)
    assert Engine(tiny.make("qwen3"), mode="fast").decode([], Sampling()) == []
