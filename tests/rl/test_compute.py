"""The meter of a run: tokens and FLOPs from shapes, whatever the cut, and over a resume."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.hardware.flops import forward_flops
from burnish.models import tiny
from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.compute import ComputeMeter, forward, spans_of

MODEL = tiny.make("qwen3", hidden=32, layers=1)


def turn(context, output):
    return Turn(list(context), list(output), np.zeros(len(output)))


def group(name, *rollouts):
    members = [Rollout(name, place, turns) for place, turns in enumerate(rollouts)]
    return Group(Item(name, [1]), members, [Score(0.0)] * len(members))


def test_spans_share_prompts_and_follow_turns():
    plain = group("a", [turn([1, 2, 3], [4, 5])], [turn([1, 2, 3], [6])]).rollouts
    assert spans_of(plain, share_prefix=True) == [(0, 5), (3, 4)]
    assert spans_of(plain, share_prefix=False) == [(0, 5), (0, 4)]
    talk = group("b", [turn([1, 2], [3]), turn([1, 2, 3, 9], [4]), turn([8], [5])]).rollouts
    assert spans_of(talk, share_prefix=True) == [(0, 3), (3, 5), (0, 2)], "the third turn starts anew"


def test_a_row_costs_the_same_in_one_stretch_or_in_two():
    assert forward(MODEL, [(0, 7)]) == pytest.approx(forward(MODEL, [(0, 3), (3, 7)]), rel=1e-12)
    assert forward(MODEL, [(0, 7)]) == pytest.approx(forward_flops(MODEL, 7, 4.0), rel=1e-12), "1 + 2 + ... + 7 keys"
    assert forward(MODEL, []) == 0.0


def test_a_step_counts_generation_and_the_training_of_what_was_kept():
    drawn = group("a", [turn([1, 2, 3], [4, 5])], [turn([1, 2, 3], [6])])
    batch, metrics = Batch(1, 0, [drawn], [[True, False]]), {}
    meter = ComputeMeter(MODEL, share_prefix=True, epochs=2)
    meter(batch, metrics)
    generation, training = forward(MODEL, [(0, 5), (3, 4)]), forward(MODEL, [(0, 5)])
    assert metrics["compute/tokens"] == 3
    assert metrics["compute/flops"] == pytest.approx(generation + 3 * 2 * training, rel=1e-12)
    meter.measured(MODEL, drawn.rollouts, share_prefix=False)
    assert meter.flops == pytest.approx(generation + 6 * training + forward(MODEL, [(0, 5), (0, 4)]), rel=1e-12)
    two, shown = ComputeMeter(MODEL, epochs=2), {}
    two.trained = (MODEL, MODEL)
    two(batch, shown)
    assert shown["compute/flops"] == pytest.approx(generation + 2 * 6 * training, rel=1e-12), "a critic is trained, too"
    other = ComputeMeter(MODEL, epochs=2)
    other.load_state_dict(meter.state_dict())
    again, fresh = {}, {}
    other(batch, again)
    meter(batch, fresh)
    assert again == fresh
    assert again["compute/tokens"] == 6
