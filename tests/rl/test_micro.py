"""How an optimiser step is cut."""

import numpy as np

from burnish.records import Rollout, Turn
from burnish.rl.micro import micro_batches, mini_batches


def rollout(context: int, outputs: int) -> Rollout:
    return Rollout("i", 0, [Turn(list(range(context)), list(range(outputs)), np.zeros(outputs))])


def test_micro_batches_hold_every_rollout_once_and_keep_to_the_budget():
    rng = np.random.default_rng(0)
    rollouts = [rollout(int(rng.integers(1, 30)), int(rng.integers(0, 40))) for _ in range(60)]
    groups = [n // 4 for n in range(60)]
    cut = micro_batches(rollouts, groups, 100)
    assert sorted(n for part in cut for n in part) == list(range(60))
    for part in cut:
        outputs = sum(len(rollouts[n].turns[0].output_ids) for n in part)
        assert outputs <= 100
    assert len(cut) < 60


def test_a_shared_prompt_counts_once():
    rollouts = [rollout(50, 10) for _ in range(5)]
    assert micro_batches(rollouts, [0] * 5, 100) == [[0, 1, 2, 3, 4]]
    assert len(micro_batches(rollouts, [0, 1, 2, 3, 4], 100)) == 5


def test_one_rollout_over_the_budget_stands_alone():
    assert micro_batches([rollout(500, 10), rollout(1, 1)], [0, 1], 100) == [[1], [0]]


def test_mini_batches_deal_whole_groups_and_repeat():
    groups = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    dealt = mini_batches(groups, 2, 1, 2, 3)
    assert sorted(map(len, dealt)) == [4, 6]
    assert sorted(n for part in dealt for n in part) == list(range(10))
    assert all({2 * (n // 2), 2 * (n // 2) + 1} <= set(part) for part in dealt for n in part)
    assert dealt == mini_batches(groups, 2, 1, 2, 3)
    assert dealt != mini_batches(groups, 2, 1, 2, 4) or dealt != mini_batches(groups, 2, 1, 2, 5)
    assert mini_batches(groups, 1, 0) == [list(range(10))]
    assert mini_batches([[], [3]], 4, 0) == [[3]]
    assert mini_batches([], 2, 0) == []
