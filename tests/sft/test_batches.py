"""Batches are pure functions of lengths, seed and step; every example once an epoch; little spread of lengths in a step."""

import itertools

import numpy as np
import pytest

from burnish.runs.errors import UserError
from burnish.sft.batches import Batches, fill, slices

LENGTHS = np.random.default_rng(0).integers(1, 200, size=1003).tolist()


@pytest.mark.parametrize("options", [{}, {"bucketing": False}, {"batch_tokens": 700}, {"batch_tokens": 700, "bucketing": False}])
def test_each_epoch_holds_every_example_once_and_any_step_can_be_asked_first(options):
    batches = Batches(LENGTHS, 16, seed=5, **options)
    steps = [batches.steps_in(n) for n in range(4)]
    for start, end in itertools.pairwise(steps):
        assert sorted(i for step in range(start, end) for i in batches.at(step)) == list(range(len(LENGTHS)))
    assert batches.epoch(steps[1] - 1) == 1.0
    assert batches.epoch(steps[3] - 1) == 3.0
    afresh = Batches(LENGTHS, 16, seed=5, **options)
    assert [afresh.at(step) for step in (steps[3] - 1, 0, steps[2])] == [batches.at(step) for step in (steps[3] - 1, 0, steps[2])]
    assert [batches.at(t) for t in range(9)] != [batches.at(steps[1] + t) for t in range(9)]
    assert [batches.at(t) for t in range(9)] != [Batches(LENGTHS, 16, seed=6, **options).at(t) for t in range(9)]


def test_sizes_and_steps():
    batches = Batches(LENGTHS, 16)
    assert batches.steps_in(1) == 63
    assert batches.steps_in(1.5) == 63 + 32
    assert sorted({len(batches.at(t)) for t in range(63)}) == [11, 16]
    tokens = Batches(LENGTHS, batch_tokens=500)
    assert all(sum(LENGTHS[i] for i in tokens.at(t)) <= 500 for t in range(tokens.steps_in(2)))
    assert Batches([10], 4).at(3) == [0]
    with pytest.raises(UserError, match="no example"):
        Batches([])


def test_bucketing_keeps_lengths_together():
    def spread(batches):
        return np.mean([np.ptp([LENGTHS[i] for i in batches.at(t)]) for t in range(63)])

    assert spread(Batches(LENGTHS, 16)) < 0.2 * spread(Batches(LENGTHS, 16, bucketing=False))


def test_fill_and_slices_respect_the_budget_and_lose_nothing():
    assert fill([0, 1, 2, 3], [4, 4, 9, 1], 8) == [[0, 1], [2], [3]]
    batch = list(range(40))
    cut = slices(batch, LENGTHS, 300)
    assert sorted(i for one in cut for i in one) == batch
    assert all(sum(LENGTHS[i] for i in one) <= 300 or len(one) == 1 for one in cut)
    assert cut == slices(batch[::-1], LENGTHS, 300)
