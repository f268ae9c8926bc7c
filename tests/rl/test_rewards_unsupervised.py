"""Rewards without an answer sheet (majority vote, confidence), and rewards inside a rollout (turns, tokens)."""

import json
import math

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models import tiny, tokenizer
from burnish.models.needs import Need
from burnish.models.policy import Policy
from burnish.records import Group, Item, Rollout, Sampling, Turn
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.measure import Measurer
from burnish.rl.rewards.confidence import Confidence, certainty
from burnish.rl.rewards.majority import Majority
from burnish.rl.rewards.turns import Tokens, Turns
from burnish.rl.rewards.weighted import Weighted
from burnish.rl.scoring import score_groups
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions


def group(texts, stops=None, answer="7"):
    turn = Turn([1], [2], np.array([-0.5]))
    rollouts = [Rollout("q", place, [turn], stop=stops[place] if stops else "eos") for place in range(len(texts))]
    return Completions(Item("q", [1], columns={"answer": answer}), rollouts, list(texts))


def rewards(part, texts, **more):
    return [score.reward for score in part(group(texts, **more))]


def right(text, columns):
    return text.strip() == columns["answer"]


# --- majority -------------------------------------------------------------------------------------------------------------------------
def test_the_most_frequent_answer_wins():
    assert rewards(Majority(), ["7", " 8", "8 ", "9"]) == [0, 1, 1, 0]
    assert rewards(Majority(lambda text: text[-1:]), ["a7", "b7", "7c"]) == [1, 1, 0]
    last = {"name": "sort", "style": "words"}  # a task brings its own extraction
    assert rewards(Majority(last), ["answer: abc", "so it is\nabc", "acb"]) == [1, 1, 0]
    assert rewards(Majority("sort"), ["abc", "abc ", "acb"]) == [1, 1, 0]


def test_ties_blanks_and_a_least_share():
    assert rewards(Majority(), ["8", "7", "7", "8"]) == [1, 0, 0, 1]  # the one that came first
    assert rewards(Majority(tie="none"), ["8", "7", "7", "8"]) == [0, 0, 0, 0]
    assert rewards(Majority(), ["", "", "", "5"]) == [0, 0, 0, 1]  # no answer is no vote
    assert rewards(Majority(), ["", ""]) == [0, 0]
    assert rewards(Majority(min_share=0.5), ["1", "1", "2", "3", ""]) == [0] * 5
    assert rewards(Majority(min_share=0.5), ["1", "1", "2", "3"]) == [1, 1, 0, 0]


def test_success_is_the_verifiers_and_broken_rollouts_do_not_vote():
    part = Majority(truth=right)
    scores = part(group(["8", "8", "7", "7", "7"], stops=["eos", "eos", "eos", "error", "error"]))
    assert [score.reward for score in scores] == [1, 1, 0, 0, 0]
    assert [score.success for score in scores[:3]] == [0, 0, 1]
    assert [score.invalid for score in scores] == [False] * 3 + [True] * 2
    assert scores[0].extras == {"majority_answer": "8", "majority_share": 2 / 3}
    assert part.metrics() == {"majority/share": 2 / 3, "majority/right": 0.0}
    assert part.metrics() == {}
    assert [score.success for score in Majority()(group(["1", "1"]))] == [None, None]


def test_majority_refuses():
    with pytest.raises(UserError, match="tie is 'last'"):
        Majority(tie="last")
    with pytest.raises(UserError, match="min_share"):
        Majority(min_share=2)
    with pytest.raises(UserError, match="neither a function"):
        Majority(extract=3)
    with pytest.raises(UserError, match="'majority' raised TypeError"):
        Majority(lambda text: [text])(group(["1"]))


# --- confidence -----------------------------------------------------------------------------------------------------------------------
def test_confidence_is_the_mean_over_loss_tokens():
    turns = [
        Turn([1], [2, 3, 4], np.zeros(3), injected=[False, True, False]),
        Turn([1], [5], np.zeros(1)),
        Turn([1], [6], np.zeros(1), train=False),
    ]
    made = Completions(Item("q", [1]), [Rollout("q", n, [turn]) for n, turn in enumerate(turns)], [""] * 3)
    values = torch.tensor([1.0, 2.0, 0.25])
    found = Confidence("entropy", scale=2.0)(made, {"policy.entropy": values})
    assert [score.reward for score in found] == [-3.0, -0.5, 0.0]
    assert [score.invalid for score in found] == [False, False, True]  # nothing of its own to be sure of
    assert [score.reward for score in Confidence("logp")(made, {"policy.logp": -values})][:2] == [-1.5, -0.25]
    assert Confidence("logp").needs == (Need(what="logp"),)
    with pytest.raises(UserError, match="needs 'self_certainty' measured"):
        Confidence("self_certainty")(made, {})
    with pytest.raises(UserError, match="did you mean 'entropy'"):
        Confidence("entropi")


def test_self_certainty_in_closed_form():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [math.log(5.0), 0.0, 0.0, 0.0]], dtype=torch.float64)
    p = np.array([5, 1, 1, 1]) / 8
    assert certainty(logits, torch.zeros(2)).tolist() == pytest.approx([0.0, float(np.sum(0.25 * np.log(0.25 / p)))], abs=1e-14)


def test_confidence_as_measured_by_the_source():
    """Entropy, log-prob and certainty of a real policy, at the sampling temperature, against the logits of a plain forward pass."""
    words = tokenizer.byte_level()
    policy = Policy(tiny.make("qwen3", words, hidden=16, layers=1, max_length=32, seed=2, dtype=torch.float64), words)
    turns = generate(Engine(policy.model, words, policy.eos_ids), [[50, 60]], Sampling(temperature=0.7), n=2, max_new_tokens=5, seeds=1)[0]
    rollouts = [Rollout("q", n, [turn], turn.stop) for n, turn in enumerate(turns)]
    wanted = []
    for turn in turns:
        with torch.no_grad():
            logits = policy.model(torch.tensor([turn.context_ids + turn.output_ids])).logits[0, 1:-1] / 0.7
        logp = logits.log_softmax(-1)
        entropy = float(-(logp.exp() * logp).sum(-1).mean())
        own = float(logp.gather(1, torch.tensor(turn.output_ids)[:, None]).mean())
        wanted.append([-entropy, own, float(-logp.mean() - math.log(logp.shape[1]))])
    part = Weighted([Confidence(m, name=m) for m in ("entropy", "logp", "self_certainty")])
    (scored,) = score_groups([(Item("q", [50, 60], 2), rollouts)], part, [], policy, Measurer({"policy": policy}))
    names = part.names
    assert np.array([[score.parts[name] for name in names] for score in scored.scores]) == pytest.approx(np.array(wanted), abs=1e-9)


# --- turns and tokens -----------------------------------------------------------------------------------------------------------------
def episode():
    """Three turns: own, forced, own tokens; a frozen partner's; own."""
    return Rollout(
        "q",
        0,
        [
            Turn([1], [104, 105, 33], np.zeros(3), injected=[False, True, False]),
            Turn([1], [120, 121], np.zeros(2), train=False),
            Turn([1], [111, 107], np.zeros(2)),
        ],
    )


def test_a_turns_number_stands_at_its_last_loss_token():
    made = Completions(Item("q", [1], columns={"bonus": 10}), [episode()], [""])
    (score,) = Turns(lambda rollout, columns: [n + columns["bonus"] for n in range(len(rollout.turns))], name="steps")(made)
    assert score.token_rewards.tolist() == [0, 10, 0, 12]  # the partner's 11 has no place
    assert (score.reward, score.parts) == (0.0, {"steps": 22.0})
    batch = CreditBatch.from_groups([Group(made.item, made.rollouts, [score])])
    assert batch.returns.tolist() == [22.0]
    (score,) = Tokens(lambda rollout, columns: [1, None, 3, 4])(made)
    assert score.token_rewards.tolist() == [1, 0, 3, 4]
    assert json.loads(json.dumps(score.to_dict()))["token_rewards"] == [1, 0, 3, 4]


def test_turns_see_what_the_policy_wrote():
    made = Completions(Item("q", [1]), [episode()], [""])
    heard = []

    def lengths(texts, columns):
        heard.append(texts)
        return [len(text) for text in texts]

    reward = Weighted(
        [Turns(lengths, texts=True), Tokens(lengths, texts=True, name="own")], [1.0, 0.5], decode=lambda ids: bytes(ids).decode()
    )
    (score,) = reward(made)
    assert heard == [["h!", "", "ok"], ["h", "!", "o", "k"]]
    assert score.token_rewards.tolist() == [0.5, 2.5, 0.5, 2.5]
    with pytest.raises(UserError, match="has no tokenizer"):
        Turns(lengths, texts=True)(made)


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda rollout, columns: [1.0], "gave 1 numbers for 3 turns of item 'q', rollout 0"),
        (lambda rollout, columns: [1.0, float("nan"), 2.0], "not finite"),
        (lambda rollout, columns: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_turns_refuse(function, wanted):
    with pytest.raises(UserError, match=wanted):
        Turns(function)(Completions(Item("q", [1]), [episode()], [""]))
