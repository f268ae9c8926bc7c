"""Records: what they refuse, and that they survive JSON bit for bit."""

import json

import numpy as np
import pytest

from burnish.records import Event, Group, Item, Limits, Rollout, Sampling, Score, StopReason, Turn
from burnish.rl.batch import Batch


def turn(**changes) -> Turn:
    fields = {
        "context_ids": [1, 2],
        "output_ids": [3, 4, 5],
        "logprobs": np.array([-0.1, np.nan, -1e-30], dtype=np.float32),
        "injected": np.array([False, True, False]),
        "version": np.array([0, 0, 1]),
        "replay": {"positions": np.arange(6).reshape(2, 3), "mask": np.array([0.1], dtype=np.float64)},
        "sampling": Sampling(temperature=0.7, stop=("x",), stop_ids=(9,)),
    }
    return Turn(**(fields | changes))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_survives_json_bit_for_bit(dtype):
    logprobs = np.random.default_rng(0).normal(size=3).astype(dtype)
    logprobs[1] = np.nan
    rollout = Rollout("a", 0, [turn(logprobs=logprobs, sample_logprobs=logprobs - 1)], StopReason.LENGTH, episode="e", outcome={"x": 1})
    item = Item("a", [{"role": "user", "content": "hi"}], 2, Limits(chunk=4), {"answer": "1"})
    score = Score(0.1 + 0.2, success=1.0, token_rewards=np.array([0.0, 1 / 3]), prompt_weight=0.5, parts={"p": 1.0})
    batch = Batch(3, 2, [Group(item, [rollout], [score])], metrics={"reward": 0.1})
    back = Batch.from_dict(json.loads(json.dumps(batch.to_dict())))
    again = back.groups[0].rollouts[0].turns[0]
    assert again.logprobs.dtype == dtype
    assert again.logprobs.tobytes() == logprobs.tobytes() or np.isnan(again.logprobs[1])
    assert np.array_equal(again.logprobs, logprobs, equal_nan=True)
    assert np.array_equal(again.sample_logprobs, logprobs - 1, equal_nan=True)
    assert np.array_equal(again.replay["positions"], np.arange(6).reshape(2, 3))
    assert again.replay["mask"].dtype == np.float64
    assert again.sampling == turn().sampling
    assert back.groups[0].item == item
    assert back.groups[0].scores[0].reward == 0.1 + 0.2
    assert back.groups[0].rollouts[0].stop is StopReason.LENGTH
    assert back.to_dict() == batch.to_dict()


def test_injected_tokens_and_untrained_turns_carry_no_loss():
    assert turn().loss_mask.tolist() == [True, False, True]
    assert turn(train=False).loss_mask.tolist() == [False, False, False]
    rollout = Rollout("a", 0, [turn(), turn(train=False)])
    assert rollout.n_loss_tokens == 2
    assert rollout.output_ids == [3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: turn(logprobs=np.zeros(2)), "3 output tokens"),
        (lambda: turn(version=np.zeros(4)), "turn.version"),
        (lambda: Sampling(temperature=-1), "sampling.temperature"),
        (lambda: Sampling(top_p=0), "sampling.top_p"),
        (lambda: Sampling(stop=("",)), "sampling.stop"),
        (lambda: Limits(max_new_tokens=0), "limits.max_new_tokens"),
        (lambda: Item("a", []), "prompt is empty"),
        (lambda: Item("a", [1], group_size=0), "group_size"),
        (lambda: Group(Item("a", [1]), [Rollout("a", 0, [])], []), "1 rollouts but 0 scores"),
        (lambda: Rollout("a", 0, [], stop="bored"), "bored"),
    ],
)
def test_records_refuse_what_makes_no_sense(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_prompt_is_ids_or_messages():
    assert Item("a", [1, 2]).token_ids == [1, 2]
    assert Item("a", [{"role": "user", "content": "x"}]).messages[0]["content"] == "x"
    with pytest.raises(TypeError, match="messages"):
        Item("a", [1]).messages  # noqa: B018
    with pytest.raises(TypeError, match="token ids"):
        Item("a", [{"role": "user", "content": "x"}]).token_ids  # noqa: B018


def test_an_event_survives_json():
    event = Event("tool_call", 1.5, "e", "solver", {"name": "add"})
    assert Event.from_dict(json.loads(json.dumps(event.to_dict()))) == event
