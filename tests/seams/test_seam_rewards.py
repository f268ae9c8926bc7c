"""Seams of the reward: reduced hidden states, prompt weights, and a ChatModel that is asked."""

import asyncio

import pytest
import torch

from burnish.chat.scripted import Scripted
from burnish.models.needs import Need, Reduce
from burnish.records import Score


def mean_state(hidden, head, ids, mask):
    """The mean hidden state of a rollout's loss tokens, and its best-predicted id (through the model's own head)."""
    assert bool(mask.all())
    return hidden.mean(0), ids, int(head.logits(hidden[-1:]).argmax())


class Novelty:
    """Reward: distance of a rollout's mean hidden state to the group's centre. The states themselves are never kept."""

    needs = (Need(what=Reduce(mean_state), name="mean_state"),)

    def __init__(self):
        self.heard = []

    def __call__(self, group, measured):
        self.heard.append(measured)
        states = torch.stack([state for state, _, _ in measured["mean_state"]])
        return [Score(float(far), parts={"novelty": float(far)}) for far in (states - states.mean(0)).norm(dim=1)]


def test_a_reward_reads_reduced_hidden_states_measured_under_the_sampling_weights(wire, fixed, dtype):
    reward = Novelty()
    run = wire(reward=reward, curriculum=fixed(group_size=3, max_new_tokens=6), dtype=dtype)
    for expected_version in (0, 1):
        weights = {name: value.clone() for name, value in run.policy.model.state_dict().items()}
        reward.heard.clear()
        batch, _ = run.step()
        after = {name: value.clone() for name, value in run.policy.model.state_dict().items()}
        run.policy.model.load_state_dict(weights)
        for group, measured in zip(batch.groups, reward.heard):
            assert list(measured) == ["mean_state"]
            for rollout, (state, ids, best) in zip(group.rollouts, measured["mean_state"]):
                (turn,) = rollout.turns
                assert (turn.version == expected_version).all()
                assert ids.tolist() == turn.output_ids
                with torch.no_grad():
                    out = run.policy.model(torch.tensor([turn.context_ids + turn.output_ids]), output_hidden_states=True)
                places = slice(len(turn.context_ids) - 1, -1)
                torch.testing.assert_close(state, out.hidden_states[-1][0, places].mean(0), rtol=1e-4, atol=1e-5)
                assert best == int(out.logits[0, -2].argmax())
        run.policy.model.load_state_dict(after)
        run.agrees(batch)
        shares = [score.reward for group in batch.groups for score in group.scores]
        assert batch.metrics["rewards/novelty/mean"] == pytest.approx(sum(shares) / 6)
        # Group-normalised advantages of exactly these rewards reach the loss.
        first = torch.tensor([score.reward for score in batch.groups[0].scores], dtype=torch.float64)
        lengths = [rollout.n_loss_tokens for rollout in batch.groups[0].rollouts]
        assert (
            torch.sign(run.seen["advantage"][: sum(lengths)]).tolist()
            == torch.sign(torch.repeat_interleave(first - first.mean(), torch.tensor(lengths))).tolist()
        )


def hard_first(group, measured):
    """Forecast-style: a prompt that was solved less counts more, and a prompt no one solved counts 0."""
    solved = [len(set(rollout.output_ids)) > 5 for rollout in group.rollouts]
    rate = sum(solved) / len(solved)
    weight = {"p0": 2.0, "p1": 0.25, "p2": 0.0}[group.item.id]
    return [Score(float(ok) + 0.1 * n, success=rate, prompt_weight=weight) for n, ok in enumerate(solved)]


@pytest.mark.parametrize("objective", ["grpo", "dapo"])
def test_prompt_weights_multiply_the_weight_tensor_and_leave_the_denominator(wire, fixed, objective):
    run = wire(reward=hard_first, curriculum=fixed(3, max_new_tokens=7), objective=objective, prompts=3)
    batch, _ = run.step()
    kept = run.agrees(batch)
    lengths = torch.tensor([rollout.n_loss_tokens for rollout in kept])
    factor = torch.tensor([2.0, 2.0, 0.25, 0.25, 0.0, 0.0], dtype=torch.float64)
    if objective == "grpo":  # 1 / (N L)
        plain = 1 / (6 * lengths.double())
    else:  # 1 / (P * tokens of the prompt)
        plain = 1 / (3 * lengths.view(3, 2).sum(1).double().repeat_interleave(2))
    assert run.seen["weights"].tolist() == pytest.approx(torch.repeat_interleave(factor * plain, lengths).tolist(), abs=1e-15)
    assert run.seen["table"].prompt_weight.tolist() == [2.0, 0.25, 0.0]


class Judge:
    """Asks a chat model for a grade of each completion, all of a group at once; an answer that is no number is invalid."""

    def __init__(self, chat):
        self.chat = chat

    def __call__(self, group, measured):
        return asyncio.run(self.grade(group))

    async def grade(self, group):
        asks = [self.chat.complete([{"role": "user", "content": f"Grade {group.item.id}: {text}"}]) for text in group.texts]
        replies = [reply.text for reply in await asyncio.gather(*asks)]
        return [Score(float(text)) if text.replace(".", "").isdigit() else Score(0.0, invalid=True) for text in replies]


def test_a_reward_asks_a_chat_model_and_an_unusable_answer_is_left_out_of_the_loss(wire, fixed):
    chat = Scripted(["1", "0", "0.5", "no idea", "1.0", "0"])
    run = wire(reward=Judge(chat), curriculum=fixed(group_size=3, max_new_tokens=5))
    batch, _ = run.step()
    decode = run.policy.decode
    asked = [message["content"] for call in chat.calls for message in call]
    assert asked == [f"Grade {g.item.id}: {decode(r.output_ids)}" for g in batch.groups for r in g.rollouts]
    assert [[score.reward for score in group.scores] for group in batch.groups] == [[1, 0, 0.5], [0, 1, 0]]
    assert batch.keep == [[True, True, True], [False, True, True]]
    assert batch.metrics["reward"] == pytest.approx(2.5 / 5)
    assert batch.metrics["rollouts/invalid"] == 1
    kept = run.agrees(batch)
    assert len(kept) == 5
    assert run.seen["table"].n_kept == 5
