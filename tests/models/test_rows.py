"""Rows and flat order on hand-made rollouts, and the grouping of rows by prefix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from burnish.models.rows import flat, rows_of, sequence_index, temperatures, turn_index
from burnish.models.sharing import Layout, groups_of, packed_cost
from burnish.records import Rollout, Sampling, Turn
from burnish.runs.errors import UserError


def turn(context, output, **more):
    return Turn(list(context), list(output), more.pop("logprobs", np.zeros(len(output))), **more)


def test_turn_that_extends_its_context_shares_the_row():
    first = turn([1, 2], [3, 4, 9], injected=np.array([False, False, True]))
    second = turn([1, 2, 3, 4, 9, 7, 7], [5])
    rows, order = rows_of([Rollout("a", 0, [first, second])])
    assert [row.ids.tolist() for row in rows] == [[1, 2, 3, 4, 9, 7, 7, 5]]
    assert rows[0].targets.tolist() == [2, 3, 7]
    assert rows[0].needed.tolist() == [1, 2, 3, 4, 9, 7, 7]
    assert order.tolist() == [0, 1, 2]


def test_reset_context_starts_a_row_and_untrained_turns_leave_none():
    turns = [turn([1, 2], [3, 4]), turn([1, 4], [5]), turn([8], [8], train=False), turn([1, 4, 6], [7])]
    rows, _ = rows_of([Rollout("a", 0, turns), Rollout("b", 0, [turn([1], [])])])
    assert [(row.ids.tolist(), row.targets.tolist()) for row in rows] == [([1, 2, 3, 4], [2, 3]), ([1, 4, 5], [2]), ([1, 4, 6, 7], [3])]


def test_a_turn_with_replay_keeps_its_own_row_and_arrays():
    routes = {"routes": np.arange(3)}
    turns = [turn([1], [2]), turn([1, 2], [3], replay=routes), turn([1, 2, 3], [4])]
    rows, _ = rows_of([Rollout("a", 0, turns)])
    assert [row.ids.tolist() for row in rows] == [[1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert rows[1].replay is routes
    assert not rows[0].replay
    assert not rows[2].replay


def test_empty_context_is_refused_by_name():
    with pytest.raises(UserError, match=r"item 'zero'.*empty context"):
        rows_of([Rollout("zero", 0, [turn([], [1])])])


def test_flat_order_and_nan_in_masked_slots():
    nan = float("nan")
    a = turn([1], [2, 3], logprobs=np.array([-1.0, nan]), injected=np.array([False, True]), sampling=Sampling(temperature=0.5))
    b = turn([1], [4], logprobs=np.array([-2.0]), sampling=Sampling(temperature=0.0), version=np.array([7]))
    c = turn([1], [5, 6], logprobs=np.array([-3.0, -4.0]), sample_logprobs=np.array([-0.3, -0.4]))
    rollouts = [Rollout("x", 0, [a, b]), Rollout("y", 0, []), Rollout("z", 0, [c])]
    assert flat(rollouts, "output_ids").tolist() == [2, 4, 5, 6]
    assert flat(rollouts, "logprobs").tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert flat(rollouts, "sample_logprobs").tolist() == pytest.approx([-1.0, -2.0, -0.3, -0.4])
    assert flat(rollouts, "version").tolist() == [0, 7, 0, 0]
    assert temperatures(rollouts).tolist() == [0.5, 1.0, 1.0, 1.0]
    assert sequence_index(rollouts).tolist() == [0, 0, 2, 2]
    assert turn_index(rollouts).tolist() == [0, 1, 2, 2]
    assert flat([], "logprobs").shape == (0,)


def _saved_by_brute_force(rows):
    """The most tokens any partition of the rows into groups with a common prefix saves."""

    def saved(part):
        common = min(
            (next((i for i, (a, b) in enumerate(zip(x, y)) if a != b), min(len(x), len(y))) for x, y in itertools.combinations(part, 2)),
            default=0,
        )
        gain = (len(part) - 1) * common
        return gain if gain >= 4 else 0

    def partitions(items):
        if not items:
            yield []
            return
        for rest in partitions(items[1:]):
            yield [[items[0]], *rest]
            for i in range(len(rest)):
                yield [*rest[:i], [items[0], *rest[i]], *rest[i + 1 :]]

    return max(sum(map(saved, partition)) for partition in partitions(rows))


@pytest.mark.parametrize("seed", range(8))
def test_grouping_saves_as_much_as_any(seed):
    rng = np.random.default_rng(seed)
    stems = [rng.integers(0, 2, 6) for _ in range(2)]
    rows = [np.concatenate([stems[rng.integers(2)][: rng.integers(2, 7)], rng.integers(0, 2, rng.integers(1, 5))]) for _ in range(6)]
    groups = groups_of(rows)
    assert sorted(row for group in groups for row in group.members) == list(range(6))
    saved = sum(map(len, rows)) - packed_cost(rows, groups).tokens
    assert saved == _saved_by_brute_force([row.tolist() for row in rows])


def test_template_head_does_not_swallow_the_prompts():
    head, prompts = [1] * 20, [[2] * 50, [3] * 50]
    rows = [np.array(head + prompt + [10 + i]) for prompt in prompts for i in range(3)]
    assert [(group.members, group.prefix) for group in groups_of(rows)] == [((0, 1, 2), 70), ((3, 4, 5), 70)]
    assert all(len(group.members) == 1 for group in groups_of(rows, share=False))


def test_layout_places_every_token_once_with_its_position():
    rng = np.random.default_rng(0)
    rows = [np.array([1, 2, 3, 4, 5, *rng.integers(10, 99, n)]) for n in (0, 2, 3)] + [np.array([7, 8])]
    layout = Layout(rows, groups_of(rows), torch.device("cpu"))
    assert len(layout.ids) == 5 + 2 + 3 + 2
    for number, row in enumerate(rows):
        where = layout.where(number, np.arange(len(row)))
        assert layout.ids[where].tolist() == row.tolist()
        assert layout.positions[where].tolist() == list(range(len(row)))
