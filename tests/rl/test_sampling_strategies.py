"""Which problems come, how hot they are sampled, what is replayed, where thinking is cut: closed forms, refusals, and one real run."""

import asyncio
import json
import math

import numpy as np
import pytest
import torch

from burnish.inference.engine import Engine
from burnish.inference.session import AsyncEngine
from burnish.models import tiny, tokenizer
from burnish.models.policy import Policy
from burnish.recipes import papers
from burnish.recipes.config import TrainConfig
from burnish.recipes.refusals import refuse_impossible
from burnish.recipes.train import train
from burnish.records import Group, Item, Limits, Rollout, Sampling, Score, Turn
from burnish.rl.batch import REPLAYED, Batch, without_replayed
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.curricula.base import make_curriculum
from burnish.rl.filters.combine import make_filter
from burnish.rl.filters.replay import Replay
from burnish.rl.filters.zero_variance import ZeroVariance
from burnish.rl.objectives import presets
from burnish.rl.rollouts.interrupted import Interrupted
from burnish.rl.session import Session
from burnish.rl.source import source_metrics
from burnish.rl.temperature import TemperatureConfig, TemperatureControl
from burnish.runs.config import build, load_config, plain
from burnish.runs.errors import UserError

WORDS = tokenizer.byte_level()
ITEMS = [Item(name, [1]) for name in "abcd"]


def group(name, successes, version=0, invalid=(), logprobs=(-0.5, -1.5)):
    rollouts, scores = [], []
    for place, success in enumerate(successes):
        turn = Turn([1], [2, 3], np.array(logprobs), version=[version, version])
        rollouts.append(Rollout(name, place, [turn]))
        scores.append(Score(float(success), success=float(success), invalid=place in invalid))
    return Group(Item(name, [1]), rollouts, scores)


def state(step, seed=0):
    return {"step": step, "seed": seed, "round": 0}


def ids(items):
    return [item.id for item in items]


# --- priority -------------------------------------------------------------------------------------------------------------------------
def known():
    part = make_curriculum({"name": "priority", "floor": 0.05, "min_count": 4, "decay": 1.0}, ITEMS)
    part.observe(Batch(1, 0, [group("a", [1, 1, 0, 0]), group("b", [1, 1, 1, 1]), group("c", [0, 0, 0, 1]), group("d", [1])]))
    return part


def test_priority_weighs_by_variance():
    part = known()
    assert [part.weight(item.id) for item in ITEMS] == [0.25, 0.05, 0.1875, 0.25]  # the floor; and too few of d to tell
    drawn = ids(part.draw(1, state(step))[0] for step in range(4000))
    shares = np.array([drawn.count(name) for name in "abcd"]) / len(drawn)
    weights = np.array([0.25, 0.05, 0.1875, 0.25]) / 0.7375
    assert np.abs(shares - weights).max() < 4 * math.sqrt(0.25 / 4000)
    assert sorted(ids(part.draw(4, state(1)))) == list("abcd")
    assert len(part.draw(9, state(1))) == 9
    assert part.metrics() == {"curriculum/known": 0.75, "curriculum/weight": 0.7375 / 4}


def test_priority_forgets_and_resumes():
    part, again = known(), make_curriculum({"name": "priority", "floor": 0.05, "min_count": 4, "decay": 1.0}, ITEMS)
    again.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert [ids(again.draw(3, state(n))) for n in range(5)] == [ids(part.draw(3, state(n))) for n in range(5)]
    assert ids(part.draw(4, state(1))) != ids(part.draw(4, state(1, seed=1)))
    quick = make_curriculum({"name": "priority", "decay": 0.5, "min_count": 1}, ITEMS)
    quick.observe(Batch(1, 0, [group("a", [0, 0])]))
    quick.observe(Batch(2, 1, [group("a", [1, 1])]))
    assert quick.weight("a") == pytest.approx(2 / 3 * 1 / 3)
    never = make_curriculum({"name": "priority", "floor": 0.0, "min_count": 1}, ITEMS[:2])
    never.observe(Batch(1, 0, [group("a", [1, 1])]))
    assert {ids(never.draw(1, state(n)))[0] for n in range(50)} == {"b"}
    with pytest.raises(UserError, match="unseen 0 above 0"):
        make_curriculum({"name": "priority", "unseen": 0}, ITEMS)


# --- replay ---------------------------------------------------------------------------------------------------------------------------
def test_a_rare_success_joins_a_later_group():
    part = make_filter({"name": "replay", "rare": 0.25, "max_age": 5})
    assert part.extend([group("a", [0, 0, 0, 1], version=3), group("b", [1, 1, 0, 0], version=3)], 3)[0].scores[3].extras == {}
    found = part.extend([group("a", [0, 0, 0, 0], version=5), group("b", [0, 0], version=5)], 5)
    assert [len(one.rollouts) for one in found] == [5, 2]  # b was solved too often
    rollout, score = found[0].rollouts[4], found[0].scores[4]
    assert (rollout.index, rollout.turns[0].version.tolist(), score.reward, score.extras) == (4, [3, 3], 1.0, {REPLAYED: 2})
    assert part.metrics() == {"replay/kept": 1.0, "replay/used": 1.0, "replay/age": 2.0}
    assert ZeroVariance()(found).groups == [True, False]  # failures alone would have gone
    assert CreditBatch.from_groups(found).measured["sample_logp"][8:10].tolist() == [-0.5, -1.5]  # of its own sampling
    whole = Batch(6, 5, found)
    measured = source_metrics(whole, 1, ZeroVariance()(found))
    assert (measured["reward"], measured["success"], measured["rollouts/drawn"], measured["rollouts/kept"]) == (0.0, 0.0, 6.0, 5.0 + 2.0)
    assert len(without_replayed(found[0]).rollouts) == 4
    assert part.extend([group("a", [0, 1, 0, 0], version=6)], 6)[0].scores[-1].extras == {}  # has one of its own
    assert len(part.extend([group("a", [0, 0])], 20)[0].rollouts) == 2  # all are too old


def test_replay_is_bounded_and_forgets_what_became_easy():
    part = Replay(rare=0.5, capacity=3, per_item=2, per_group=2, max_age=100)
    for version, name in enumerate("aaabbc"):
        part.extend([group(name, [1, 0, 0], version=version)], version)
    assert [(one.item, one.version) for one in part.kept] == [("b", 3), ("b", 4), ("c", 5)]
    again = Replay(rare=0.5, capacity=3, per_item=2, per_group=2, max_age=100)
    again.load_state_dict(json.loads(json.dumps(part.state_dict())))
    assert again.state_dict() == part.state_dict()
    shown = [one.extend([group("b", [0, 0], version=9, invalid=[1])], 9)[0] for one in (part, again)]
    assert [score.extras.get(REPLAYED) for score in shown[0].scores] == [None, None, 5, 6]  # the newest first
    assert [rollout.to_dict() for rollout in shown[0].rollouts] == [rollout.to_dict() for rollout in shown[1].rollouts]
    part.extend([group("b", [1] * 20, version=10)], 10)
    assert {one.item for one in part.kept} == {"c"}


@pytest.mark.parametrize("objective", ["grpo", "rloo", {"preset": "dapo", "correction": "drop_stale_negative"}])
def test_replay_refuses_objectives_without_an_off_policy_ratio(objective):
    with pytest.raises(UserError, match="neither takes its ratio against the sampler nor corrects"):
        Replay.check_objective(presets.make(objective))
    for fine in (
        "scalerl",
        {"preset": "dapo", "correction": "truncate"},
        {"preset": "grpo", "ratio": {"name": "token", "against": "sampler"}},
    ):
        Replay.check_objective(presets.make(fine))


# --- temperature ----------------------------------------------------------------------------------------------------------------------
def test_temperature_follows_the_target():
    control = TemperatureControl(TemperatureConfig(target_entropy=2.0, gain=0.1, proportional=0.5, low=0.4, high=2.0), 1.0)
    base = Sampling(top_k=0, stop=("x",))
    assert control.at(1, base) == base
    control.observe(Batch(1, 0, [group("a", [0, 0], logprobs=(-1.0, -2.0))]))
    assert control.metrics() == {"sampling/temperature": 1.0, "sampling/entropy": 1.5}
    assert control.at(1, base).temperature == 1.0  # fixed within a step
    assert control.at(2, base).temperature == pytest.approx(math.exp(0.1 * 0.5))
    control.observe(Batch(2, 1, [group("a", [0, 0], logprobs=(-3.0, -3.0))]))
    again = TemperatureControl(control.config, 1.0)
    again.load_state_dict(json.loads(json.dumps(control.state_dict())))
    # error 0.5 -> -1: the integral term moves by its gain, the proportional one by the change
    assert control.at(3, base).temperature == again.at(3, base).temperature == pytest.approx(math.exp(0.05 - 0.1 + 0.5 * -1.5))
    for step in range(4, 30):
        control.observe(Batch(step, step, [group("a", [0], logprobs=(-9.0, -9.0))]))
        assert control.at(step, base).temperature >= 0.4
    assert control.temperature == 0.4
    with pytest.raises(UserError, match="widen the bounds"):
        TemperatureControl(TemperatureConfig(target_entropy=1.0), 0.1)
    with pytest.raises(UserError, match="never move"):
        TemperatureControl(TemperatureConfig(target_entropy=1.0, gain=0.0))


# --- forced interruption --------------------------------------------------------------------------------------------------------------
def test_thinking_is_interrupted_once():
    policy = Policy(tiny.make("qwen3", WORDS, hidden=16, layers=1, max_length=96, seed=1), WORDS)
    item = Item("q", [50, 51], 12, Limits(max_new_tokens=9))
    thinker, phrase = Interrupted(3, 5, phrase="!</think>"), list(b"!</think>")

    async def run():
        session = Session(AsyncEngine(Engine(policy.model, WORDS, policy.eos_ids, slots=12)), policy, Sampling(), seed=4)
        return session, [rollout async for rollout in thinker.think([item], session)]

    session, rollouts = asyncio.run(run())
    cuts = set()
    for rollout in rollouts:
        (turn,) = rollout.turns
        budget = thinker.budget(item, rollout.index, session)
        if not turn.injected.any():
            assert len(turn.output_ids) <= budget  # it ended before its time was up
            continue
        cuts.add(budget)
        assert turn.injected.nonzero()[0].tolist() == list(range(budget, budget + len(phrase)))
        assert policy.decode(turn.output_ids[budget : budget + len(phrase)], skip_special_tokens=False) == "!</think>"
        assert 1 <= int(turn.loss_mask.sum()) <= 9
    assert cuts == {3, 4, 5}
    for wrong in ({"low": 0, "high": 3}, {"low": 3, "high": 2}, {"low": 1, "high": 2, "phrase": "stop"}):
        with pytest.raises(UserError, match="thinker interrupted"):
            Interrupted(**wrong)


# --- recipes, and refusals before anything loads ----------------------------------------------------------------------------------------
def test_recipes_fill_in_what_is_not_set():
    config = load_config(TrainConfig, None, ["--rl.recipe", "dapo", "--rl.max_new_tokens", "50", "--rl.group_size", "4"])
    assert (config.rl.objective, config.rl.group_size) == ("dapo", 4)
    assert config.rl.shapers == ({"name": "overlong", "max_length": 50, "cache": 10, "scale": 0.5},)
    assert config.rl.filters == ({"name": "refill", "filter": ["truncated", "zero_variance"], "prompts": 8, "rounds": 10},)
    assert build(TrainConfig, plain(config)) == config
    scale = build(TrainConfig, {"rl": {"recipe": "scalerl", "filters": []}})
    assert (scale.rl.curriculum, scale.rl.filters, scale.rl.lag) == ({"name": "retirement", "at": 0.9, "window": "last"}, (), 8)
    with pytest.raises(UserError, match="did you mean 'dapo'"):
        build(TrainConfig, {"rl": {"recipe": "dapoo"}})
    assert "rl.recipe scalerl sets besides" in papers.brings("scalerl")
    assert papers.brings("grpo") == ""


def settings(folder, **rl):
    common = {
        "steps": 4, "learning_rate": 0.01, "prompts_per_step": 3, "group_size": 4, "max_new_tokens": 8, "save_steps": 2, "slots": 16,
        "objective": "scalerl", "curriculum": {"name": "priority", "min_count": 1},
        "filters": [{"name": "replay", "rare": 0.5, "per_group": 2}, "zero_variance"],
        "temperature": {"target_entropy": 5.0, "gain": 0.2},
    }  # fmt: skip
    return build(TrainConfig, {"output": str(folder), "seed": 3, "threads": 1, "rl": common | rl})


@pytest.mark.parametrize(
    ("rl", "wanted"),
    [
        ({"objective": "grpo"}, "filter replay adds rollouts of older weights"),
        ({"filters": [{"name": "refill", "filter": ["replay", "zero_variance"], "prompts": 3}]}, "must stand by itself"),
        ({"filters": [], "temperature": {"target_entropy": 1.0, "high": 0.9}}, "widen the bounds"),
        ({"filters": [], "curriculum": {"name": "retirement", "curriculum": "unifrom"}}, "did you mean 'uniform'"),
        ({"filters": [], "thinker": {"name": "interrupted", "low": 4, "high": 8}}, "leave room for an answer"),
        ({"filters": [], "rewards": [{"name": "majority", "ties": "none"}]}, "did you mean 'tie'"),
    ],
)
def test_refused_before_anything_loads(tmp_path, rl, wanted):
    with pytest.raises(UserError, match=wanted):
        refuse_impossible(settings(tmp_path / "run", **({"rewards": ["verifier_that_is_never_reached.py"]} | rl)), True, None, True)


# --- one real run -----------------------------------------------------------------------------------------------------------------------
def rarely(stop_at=None):
    """Right where at least six of the eight tokens are even, which happens seldom enough; the n-th call is Ctrl-C."""
    calls = iter(range(1, 1000))

    def reward(completions, completion_ids, **kwargs):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        return [float(sum(token % 2 == 0 for token in one) >= 6) for one in completion_ids]

    reward.__name__ = "rarely"
    return reward


def start(config, reward, **more):
    model = tiny.make("qwen3", WORDS, hidden=16, layers=1, max_length=48, seed=5)
    data = [{"prompt": letter} for letter in "abc"]
    return train(config, model=model, tokenizer=WORDS, data=data, reward=reward, **more)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_priority_replay_and_temperature_in_one_run_that_is_killed_and_resumed(tmp_path):
    whole = start(settings(tmp_path / "whole"), rarely())
    with pytest.raises(KeyboardInterrupt):
        start(settings(tmp_path / "cut"), rarely(stop_at=3 * 3 + 2))  # in the fourth step: it goes on from the second
    cut = start(settings(tmp_path / "cut"), rarely(), resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole["policy"].model.parameters(), cut["policy"].model.parameters()))
    names = ("reward", "sampling/temperature", "sampling/entropy", "replay/kept", "replay/used", "curriculum/weight", "compute/tokens")
    found = rows(tmp_path / "whole")
    assert [[row[name] for name in names] for row in found] == [[row[name] for name in names] for row in rows(tmp_path / "cut")]
    assert sum(row["replay/used"] for row in found) > 0
    temperatures = [row["sampling/temperature"] for row in found]
    assert temperatures[0] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)  # a flat model: about 5.6 nats, more than was asked for
    assert temperatures[1] == pytest.approx(math.exp(0.2 * (5.0 - found[0]["sampling/entropy"])))
    # the trainer scores each turn where it was sampled: without that the gap would be about |1 - T|
    assert max(row["sampling/sampling_logp_difference/max"] for row in found) < 1e-5
