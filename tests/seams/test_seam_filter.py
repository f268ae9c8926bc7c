"""Seam: a filter that asks for more groups."""

import pytest

from burnish.records import Item, Limits, Score
from burnish.rl.filters.result import FilterResult


class Mixed:
    """Keeps groups with a success and a failure, and asks for as many more as are missing."""

    def __init__(self, wanted):
        self.wanted, self.asked = wanted, []

    def __call__(self, groups):
        mixed = [0 < sum(score.success for score in group.scores) < len(group.scores) for group in groups]
        missing = self.wanted - sum(mixed)
        self.asked.append(missing)
        keep = [[flag] * len(group.rollouts) for flag, group in zip(mixed, groups)]
        return FilterResult(keep, more=max(missing, 0), counts={"uniform": mixed.count(False)})

    def state_dict(self):
        return {"asked": list(self.asked)}

    def load_state_dict(self, state):
        self.asked = list(state["asked"])


class Stream:
    """Every drawing gives new items; the second of each three is uniform."""

    def __init__(self):
        self.states, self.count = [], 0

    def draw(self, n, state):
        self.states.append((n, state["step"], state["round"]))
        self.count += n
        return [Item(f"i{k}", [65 + k % 26, 66], 2, Limits(max_new_tokens=4)) for k in range(self.count - n, self.count)]


def two_in_three(group, measured):
    uniform = int(group.item.id[1:]) % 3 == 1
    return [Score(float(n), success=1.0 if uniform else float(n)) for n, _ in enumerate(group.rollouts)]


def test_dropped_groups_are_replaced_and_never_reach_the_loss(wire):
    stream, mixed = Stream(), Mixed(4)
    run = wire(curriculum=stream, reward=two_in_three, filters=[mixed], prompts=4)
    batch, metrics = run.step()
    # 0 1 2 3 | 4 -> of the first four one is uniform, and so is its replacement | 5
    assert stream.states == [(4, 1, 0), (1, 1, 1), (1, 1, 2)]
    assert mixed.asked == [1, 1, 0]
    assert [group.item.id for group in batch.groups] == [f"i{k}" for k in range(6)]
    assert batch.keep == [[k % 3 != 1] * 2 for k in range(6)]
    assert batch.metrics["rollouts/rounds"] == 3
    assert batch.metrics["filter/uniform"] == 2
    kept = run.agrees(batch)
    assert [rollout.item_id for rollout in kept] == ["i0", "i0", "i2", "i2", "i3", "i3", "i5", "i5"]
    assert run.seen["weights"].sum() == pytest.approx(1.0)  # GRPO's weights over the 8 kept rollouts: sum of 1 / (8 L) * L
    assert metrics["num_tokens_step"] == sum(rollout.n_loss_tokens for rollout in kept)


def test_rounds_are_capped_and_a_step_with_nothing_left_still_moves_on(wire):
    class Never(Mixed):
        def __call__(self, groups):
            return FilterResult([[False] * len(group.rollouts) for group in groups], more=3)

    run = wire(curriculum=Stream(), reward=two_in_three, filters=[Never(1)], prompts=3, max_rounds=2)
    batch, metrics = run.step()
    assert len(batch.groups) == 6
    assert metrics["num_tokens_step"] == 0
    assert run.learner.objective.steps == []
