"""HERO: the bands against the oracle, by hand and as published; the shaper's life; scorers, baselines, refusals, recorded groups."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.models import tiny, tokenizer
from burnish.recipes import papers
from burnish.recipes.config import TrainConfig
from burnish.recipes.refusals import refuse_impossible
from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.chain import make_chain
from burnish.rl.filters.zero_variance import ZeroVariance
from burnish.rl.objectives import presets
from burnish.rl.objectives.weights.means import SequenceMean
from burnish.rl.rewards.hero import Blend, GatedFallback, Hero, RewardModel, ScorerOnly, actions
from burnish.rl.rewards.hero.bands import Bands, Running, VarianceWeight, agreement, ranks, sigma_of
from burnish.rl.rewards.hero.recorded import read
from burnish.rl.rewards.hero.scorer import Scorer
from burnish.runs import parts
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

GOLDEN = Path(__file__).parent / "golden_hero"
CASES = {
    "two_batches_1": ({"alpha": 0.05, "beta": 0.05}, {"w_min": 0.5, "w_max": 2.0, "k": 5.0}, True),
    "two_batches_2": ({"alpha": 0.05, "beta": 0.05}, {"w_min": 0.5, "w_max": 2.0, "k": 5.0}, False),
    "edge_singletons_equal_scores": ({"alpha": 0.1, "beta": 0.1}, {"w_min": 0.4, "w_max": 3.0, "k": 6.0}, False),
}


def said(text, columns):
    """A scorer: the number that the text is, NaN where it is none."""
    return float(text)


def completions(values, name="q", agents=None):
    turn = Turn([1], [2, 3], np.array([-0.5, -0.5]))
    rollouts = [Rollout(name, place, [turn], agent=agents[place] if agents else "policy") for place in range(len(values))]
    return Completions(Item(name, [1]), rollouts, [repr(float(value)) for value in values])


def scored(verified):
    return [Score(float(one), success=float(one)) for one in verified]


def round_of(shaper, rows, step=1):
    """A round as the Source makes it: every group shaped, then the batch observed. rows: (verified, scores)."""
    groups = []
    for number, (verified, values) in enumerate(rows):
        seen = completions(values, f"q{number}")
        groups.append(Group(seen.item, seen.rollouts, shaper.shape(seen, scored(verified))))
    batch = Batch(step, step - 1, groups)
    shaper.observe(batch)
    return batch


# --- arithmetic -----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_golden_rewards_weights_and_advantages(name):
    bands, weight, first = CASES[name]
    with np.load(GOLDEN / f"{name}.npz") as file:
        gold = {key: file[key] for key in file}
    order = list(dict.fromkeys(gold["group"].tolist()))
    rows = [(gold["verifier"][gold["group"] == one], gold["score"][gold["group"] == one]) for one in order]
    shaper = Hero(said, **bands, weight=weight)
    if not first:
        shaper.running.mean = float(gold["sigma_bar_before"])
    batch = round_of(shaper, rows)
    scores = [score for group in batch.groups for score in group.scores]
    reward, factor = np.array([one.reward for one in scores]), np.array([one.prompt_weight for one in scores])
    np.testing.assert_allclose(reward, gold["band_reward"], atol=1e-9)
    np.testing.assert_allclose(factor, gold["weight"], atol=1e-9)
    np.testing.assert_allclose(reward * factor, gold["published_reward"], atol=1e-9)
    np.testing.assert_allclose([group.scores[0].extras["hero"]["sigma"] for group in batch.groups], gold["sigma"], atol=1e-9)
    assert shaper.running.mean == pytest.approx(float(gold["sigma_bar_after"]), abs=1e-9)
    if first:
        assert np.mean(gold["sigma"]) == pytest.approx(float(gold["sigma_bar_before"]), abs=1e-9)
    credit = CreditBatch.from_groups(batch.groups)
    tokens = make_chain("group_mean")(credit).tokens
    weights = SequenceMean()(credit.table) * len(scores) * 2  # the objective's own 1 / (N L) taken out: the prompt weight is left
    np.testing.assert_allclose((tokens * weights)[::2].numpy(), gold["advantage"], atol=1e-9)


def test_bands_by_hand_and_against_the_oracle():
    found = Bands(alpha=0.1, beta=0.2).rewards([1, 0, 0, 1, 0, 1], [5.0, 1.0, 3.0, 7.0, math.nan, math.inf])
    np.testing.assert_allclose(found, [0.8, -0.1, 0.1, 1.2, 0.0, 1.0], atol=1e-6)
    assert Bands(singleton_z=0.5).rewards([1, 0, 0], [9.0, 2.0, 2.0]).tolist() == [1.0, 0.0, 0.0]
    generator = np.random.default_rng(0)
    for _ in range(20):
        right, group = generator.random(24) < 0.4, generator.integers(0, 5, 24)
        score = np.where(generator.random(24) < 0.2, np.nan, generator.normal(size=24).round(1))
        bands = Bands(alpha=0.2, beta=0.1)
        np.testing.assert_array_equal(bands.rewards(right, score, group), bands.rewards_naive(right, score.tolist(), group.tolist()))
    assert Bands().rewards([], []).shape == (0,)


def test_no_wrong_answer_above_a_right_one_in_ten_thousand_groups():
    generator = np.random.default_rng(1)
    for _ in range(10_000):
        n, alpha = int(generator.integers(2, 17)), float(generator.uniform(0, 1))
        beta = float(generator.uniform(0, 1 - alpha)) * 0.999999
        right = generator.random(n) < generator.random()
        score = generator.normal(size=n) * 10 ** generator.uniform(-8, 8)
        score[generator.random(n) < 0.1] = math.nan
        found = Bands(alpha=alpha, beta=beta).rewards(right, score)
        assert (found[~right] <= alpha).all()
        assert (found[right] >= 1 - beta).all()
        if right.any() and not right.all():
            assert found[~right].max() < found[right].min()


def test_invariances():
    right, score = np.array([1, 0, 0, 1, 0], bool), np.array([0.3, -1.0, 2.0, 1.1, 0.4])
    bands = Bands(eps=1e-12)
    np.testing.assert_allclose(bands.rewards(right, score), bands.rewards(right, 7 * score - 3), atol=1e-9)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_array_equal(bands.rewards(right, score)[order], bands.rewards(right[order], score[order]))


def test_the_weight_and_its_units():
    running, weight = Running(0.9, 1.0, 0.25), VarianceWeight()
    assert weight.weight(1.0, running) == pytest.approx(1.25)
    assert weight.weight(1e9, running) == pytest.approx(2.0)
    assert weight.weight(-1e9, running) == pytest.approx(0.5)
    assert VarianceWeight(k=0).weight(7.0, running) == pytest.approx(1.25)
    scaled = VarianceWeight(unit="std")
    assert scaled.weight(1.5, running) == pytest.approx(scaled.weight(150.0, Running(0.9, 100.0, 2500.0)))
    assert scaled.weight(3.0, Running(0.9, 1.0, 0.0)) == pytest.approx(1.25), "no spread of sigma yet"
    running.move([3.0, 5.0])
    assert (running.mean, running.variance) == (pytest.approx(1.3), pytest.approx(0.9 * 0.25 + 0.1 * 10))


def test_agreement_ranks_and_sigma():
    assert agreement([1, 0, 0], [1.0, 0.0, 2.0]) == 0.5
    assert agreement([1, 1, 0], [1.0, 2.0, 1.0]) == 0.75
    assert agreement([1, 1], [1.0, 2.0]) is None
    assert agreement([1, 0], [1.0, math.nan]) is None
    assert ranks([3.0, 1.0, 1.0, math.nan]).tolist() == [1.0, 0.25, 0.25, 0.5]
    assert ranks([3.0]).tolist() == [0.5]
    assert sigma_of([1.0, math.nan, 3.0]) == 1.0
    assert sigma_of([1.0]) == 0.0


# --- the shaper -----------------------------------------------------------------------------------------------------------------------
def test_the_shaper_says_what_it_saw_and_resumes():
    rows = [([1, 0, 0], [1.0, 0.0, 2.0]), ([0, 0, 0], [1.0, math.nan, 4.0]), ([1, 1, 1], [2.0, 2.0, 2.0])]
    one = Hero(said)
    first = round_of(one, rows)
    assert all(score.success in (0.0, 1.0) for group in first.groups for score in group.scores)
    found = one.metrics()
    assert found["hero/uniform_wrong"] == found["hero/uniform_right"] == pytest.approx(1 / 3)
    assert found["hero/agreement"] == 0.5
    assert found["hero/missing"] == 1
    assert (found["hero/right"], found["hero/wrong"]) == (pytest.approx(4 / 3), pytest.approx(5 / 3))
    mean = np.mean([sigma_of([1.0, 0.0, 2.0]), 1.5, 0.0])
    assert found["hero/sigma_bar"] == pytest.approx(mean), "the first batch moves nothing"
    assert found["hero/weight"] == pytest.approx(np.mean([group.scores[0].prompt_weight for group in first.groups]))
    assert one.metrics() == {}
    two = Hero(said)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    later = [[score.to_dict() for group in round_of(part, rows[:2], 2).groups for score in group.scores] for part in (one, two)]
    assert later[0] == later[1]
    assert one.state_dict() == two.state_dict() != Hero(said).state_dict()


def test_nothing_happens_where_nothing_should():
    broken = Score(0.0, invalid=True, extras={"reason": "broken"})
    found = Hero(said).shape(completions([1.0, 9.0, 2.0]), [*scored([1]), broken, *scored([0])])
    assert found[1] is broken
    assert [one.reward for one in found[::2]] == [0.95, -0.05]
    assert [one.prompt_weight for one in found] == [1.0] * 3, "no running mean yet: set when the batch is whole"
    plain = Hero(said, weight=False)
    batch = round_of(plain, [([1, 0], [1.0, 5.0]), ([0, 0], [1.0, 100.0])])
    assert {score.prompt_weight for group in batch.groups for score in group.scores} == {1.0}
    alone = round_of(Hero(said), [([1], [3.0])])
    assert make_chain("group_mean")(CreditBatch.from_groups(alone.groups)).tokens.tolist() == [0.0, 0.0]
    assert Hero(said, alpha=0, beta=0).shape(completions([1.0, 2.0, 3.0]), scored([0, 1, 0]))[1].reward == 1.0


def test_verdicts_are_thresholded_and_agents_are_strata_of_their_own():
    half = [Score(0.7), Score(0.2), Score(5.0, success=0.4)]
    assert [one.reward > 0.5 for one in Hero(said).shape(completions([1.0, 2.0, 3.0]), half)] == [True, False, False]
    two = completions([1.0, 2.0, 100.0, 200.0], agents=["a", "a", "b", "b"])
    found = [one.reward for one in Hero(said).shape(two, scored([0, 0, 0, 0]))]
    np.testing.assert_allclose(found, [-0.05, 0.05, -0.05, 0.05], atol=1e-6)


def test_a_uniform_group_lives_through_the_zero_variance_filter():
    batch = round_of(Hero(said), [([0, 0], [1.0, 2.0]), ([0, 0], [1.0, 1.0])])
    assert ZeroVariance()(batch.groups).keep == [[True, True], [False, False]]


# --- refusals -------------------------------------------------------------------------------------------------------------------------
def test_bad_settings():
    with pytest.raises(UserError, match="must stay below 1"):
        Hero(said, alpha=0.5, beta=0.5)
    with pytest.raises(UserError, match="exchange them"):
        Hero(said, weight={"w_min": 3.0})
    with pytest.raises(UserError, match="unknown key 'w_mx'"):
        Hero(said, weight={"w_mx": 3.0})
    with pytest.raises(UserError, match="weight is 3"):
        Hero(said, weight=3)
    with pytest.raises(UserError, match=r"hero has no scorer.*file\.py:name"):
        parts.make("burnish.rl.rewards", "hero")
    with pytest.raises(UserError, match="did you mean 'alpha'"):
        parts.make("burnish.rl.rewards", {"name": "hero", "scorer": said, "alhpa": 0.1})
    with pytest.raises(UserError, match="a is 2"):
        Blend(said, a=2)
    with pytest.raises(UserError, match="scale is 0"):
        GatedFallback(said, scale=0)
    with pytest.raises(UserError, match="2 scores for the 1 rollouts"):
        Hero(said).shape(completions([1.0]), scored([1, 0]))


@pytest.mark.parametrize("credit", [["group_mean", "group_std"], ["group_mean", "by_group_mean"]])
def test_a_scale_that_cancels_the_shaping_is_refused(credit):
    with pytest.raises(UserError, match=f"'hero' shapes what credit step '{credit[1]}' would cancel"):
        presets.preset("dr_grpo").with_(credit=credit).for_run(4, 8, parts=[Hero(said)])
    presets.preset("dr_grpo").for_run(4, 8, parts=[Hero(said)])
    presets.preset("dapo").for_run(4, 8, parts=[Blend(said), GatedFallback(said), ScorerOnly(said)])


def test_dividing_by_the_groups_spread_would_indeed_cancel():
    """The reason for the refusal: with it, alpha says nothing in a group that is all wrong."""
    found = []
    for alpha in (0.05, 0.2):
        batch = round_of(Hero(said, alpha=alpha, weight=False), [([0, 0, 0], [1.0, 2.0, 4.0])])
        found.append(make_chain("group_mean >> group_std")(CreditBatch.from_groups(batch.groups)).tokens)
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_the_recipe_centres_alone_and_asks_for_a_scorer(tmp_path):
    def config(**rl):
        given = {"recipe": "hero", "rewards": ["format"], "prompts_per_step": 4, **rl}
        return build(TrainConfig, {"model": {"path": "x"}, "data": {"path": "y"}, "output": str(tmp_path), "rl": given})

    objective = presets.make(papers.settings("hero", {})["objective"])
    assert [step.name for step in objective.credit.steps] == ["group_mean"]
    assert (objective.surrogate.clip_low, objective.surrogate.clip_high, objective.kl.active) == (0.2, 0.28, False)
    reward = {"name": "format", "pattern": "a"}
    with pytest.raises(UserError, match="hero has no scorer"):
        refuse_impossible(config(rewards=[reward]), True, None, True)
    shaper = {"name": "hero", "scorer": f"{__name__}:said"}
    assert refuse_impossible(config(rewards=[reward], shapers=[shaper]), True, None, True) is not None
    with pytest.raises(UserError, match="'hero' shapes what credit step 'group_std' would cancel"):
        refuse_impossible(config(rewards=[reward], shapers=[shaper], objective="grpo"), True, None, True)


# --- scorers and baselines ------------------------------------------------------------------------------------------------------------
def test_scorers_of_every_kind():
    group = completions([1.0, 2.0])
    assert Scorer(said, "x")(group) == [1.0, 2.0]
    assert Scorer(lambda text, columns: None if text == "1.0" else math.inf, "x")(group) == pytest.approx([math.nan] * 2, nan_ok=True)
    assert Scorer(lambda completions, **rest: [float(one) for one in completions], "x")(group) == [1.0, 2.0]
    assert Scorer(lambda prompts, completions, **rest: [math.nan, 3.0], "x")(group) == pytest.approx([math.nan, 3.0], nan_ok=True)
    assert Scorer(lambda group: np.array([4.0, 5.0]), "x")(group) == [4.0, 5.0]
    assert Scorer(lambda group, measured: [Score(1.0), Score(2.0, invalid=True)], "x")(group) == pytest.approx([1.0, math.nan], nan_ok=True)
    assert Scorer({"name": "format", "pattern": "1.*"}, "x")(group) == [1.0, 0.0]
    with pytest.raises(UserError, match=r"returned 1 values for the 2 completions of item 'q'"):
        Scorer(lambda group: [1.0], "x")(group)
    with pytest.raises(UserError, match="gave 'high' for item 'q'"):
        Scorer(lambda text, columns: "high", "x")(group)
    with pytest.raises(UserError, match=r"raised ZeroDivisionError.*mend the function"):
        Scorer(lambda text, columns: 1 / 0, "x")(group)
    with pytest.raises(UserError, match=r"takes \(a, b, c\)"):
        Scorer(lambda a, b, c: 0, "x")


def test_baselines():
    group, verdicts = completions([1.0, math.nan, 3.0]), scored([1, 0, 0])
    assert [one.reward for one in Blend(said, a=0.25).shape(group, verdicts)][::2] == [1.0, 2.25]
    only = ScorerOnly(said).shape(group, verdicts)
    assert [one.reward for one in only][::2] == [1.0, 3.0]
    assert [one.invalid for one in only] == [False, True, False]
    assert [one.success for one in only] == [1.0, 0.0, 0.0]
    gated = GatedFallback(said)
    assert [one.reward for one in gated.shape(group, verdicts)] == [1.0, 0.0, 0.0], "mixed: the verifier alone"
    assert [one.reward for one in gated.shape(group, scored([0, 0, 0]))] == [0.0, 0.5, 1.0]
    assert [one.reward for one in GatedFallback(said, scale=0.1).shape(group, scored([1, 1, 1]))] == [0.0, 0.05, 0.1]
    two = [*scored([1, 1]), Score(0.0, invalid=True)]
    assert [one.reward for one in gated.shape(completions([2.0, 1.0, 5.0]), two)][:2] == [1.0, 0.0], (
        "an invalid rollout does not mix a group"
    )


def reward_folder(folder, words, labels=1, name="qwen3"):
    import transformers

    config = tiny.make(name, words, hidden=32, layers=1, max_length=48).config
    config.num_labels, config.architectures = labels, None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_a_reward_model_from_a_folder_scores_in_batches(tmp_path):
    folder = reward_folder(tmp_path / "rm", tokenizer.byte_level())
    texts = ["a", "bcd", "", "efghij", "x" * 100]
    turn = Turn([1], [2], np.array([-0.5]))
    item = Item("q", [{"role": "user", "content": "hi"}])
    group = Completions(item, [Rollout("q", place, [turn]) for place in range(5)], texts)
    batched, single = (Scorer({"path": str(folder), "batch_size": size}, "x")(group) for size in (3, 1))
    assert batched[:4] == pytest.approx(single[:4], abs=1e-5)
    assert len(set(single[:4])) == 4
    assert math.isnan(batched[4]), "longer than the model can read: no score"
    assert [one.invalid for one in RewardModel(str(folder))(group)] == [False] * 4 + [True]
    text = Completions(Item("q", [5], columns={"question": "hi"}), group.rollouts, texts)
    assert RewardModel(str(folder), question="question").scores(text)[1] is not None
    with pytest.raises(UserError, match="name the column that holds its text"):
        RewardModel(str(folder)).scores(text)


def test_reward_models_that_are_refused(tmp_path):
    words = tokenizer.byte_level()
    with pytest.raises(UserError, match="no model folder"):
        RewardModel("./nowhere")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="has no weights"):
        RewardModel(str(tmp_path / "pickled"))
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="pickled weights"):
        RewardModel(str(tmp_path / "pickled"))
    tiny.make("qwen3", words).save_pretrained(tmp_path / "causal")
    with pytest.raises(UserError, match="is a Qwen3ForCausalLM"):
        RewardModel(str(tmp_path / "causal"))
    three = RewardModel(str(reward_folder(tmp_path / "three", words, labels=3)))
    with pytest.raises(UserError, match="has 3 logits; say which"):
        three.scores(completions([1.0]))
    with pytest.raises(UserError, match="batch_size is 0"):
        RewardModel(str(tmp_path / "three"), batch_size=0)


# --- recorded groups ------------------------------------------------------------------------------------------------------------------
def told(capsys, *words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    actions["inspect"].add_arguments(parser)
    assert actions["inspect"].run(parser.parse_args([*map(str, words)])) in (0, None)
    return capsys.readouterr().out


def test_recorded_groups_are_scored_offline(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    lines = [
        {"id": "a", "verifier": [1, 0, 0], "score": [0.3, None, 1.2]},
        *({"group": "b", "verifier": 0, "score": value} for value in (0.3, 0.7)),
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = json.loads(told(capsys, log, "--json", "--out", tmp_path / "out.jsonl"))
    assert found["summary"]["groups"] == 2
    assert (found["summary"]["agreement"], found["summary"]["missing"], found["summary"]["uniform_wrong"]) == (0.0, 1.0, 0.5)
    row = found["groups"][0]
    np.testing.assert_allclose(row["reward"], [0.95, 0.0, -0.05])
    np.testing.assert_allclose(row["advantage"], (np.array(row["reward"]) - np.mean(row["reward"])) * row["weight"])
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == found["groups"]
    assert "rank agreement" in told(capsys, log)
    assert json.loads(told(capsys, log, "--json", "--no-weight"))["groups"][0]["weight"] == 1.0


def test_groups_of_a_run_and_texts_scored_now(tmp_path, capsys):
    from burnish.rl.batch import group_to_dict

    shaper, folder = Hero(said), tmp_path / "run" / "rollouts"
    folder.mkdir(parents=True)
    batches = [round_of(shaper, [([1, 0], [1.0, 3.0]), ([0, 0], [0.0, 5.0])], step) for step in (1, 2)]
    for step, batch in enumerate(batches, start=1):
        rows = [group_to_dict(group) | {"texts": ["7", "8"]} for group in batch.groups]
        (folder / f"step-{step:06d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads(told(capsys, tmp_path / "run", "--json"))
    expected = [group.scores[0].prompt_weight for batch in batches for group in batch.groups]
    np.testing.assert_allclose([row["weight"] for row in found["groups"]], expected)
    scorer = tmp_path / "scorer.py"
    scorer.write_text("def part(text, columns):\n    return -float(text)\n")
    again = json.loads(told(capsys, tmp_path / "run", "--json", "--scorer", scorer))
    assert again["groups"][1]["reward"] == pytest.approx([0.05, -0.05], abs=1e-6)
    log = tmp_path / "texts.jsonl"
    log.write_text('{"verifier": [1, 0, 0], "prompt": "?", "completions": ["1", "2", "3"]}\n')
    assert read(log, Scorer(str(scorer), "x"))[0][0].score == [-1.0, -2.0, -3.0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "line 1: not a JSON object"),
        ('{"verifier": [1, 0], "score": [1]}', "lists of one length"),
        ('{"verifier": 1, "score": 1}', "says its group"),
        ('{"verifier": ["yes"], "score": [1]}', "verifier holds 'yes'"),
        ('{"verifier": [1], "score": ["high"]}', "score holds 'high'"),
        ('{"rollouts": [], "scores": []}', "not a group"),
        ("", "holds no groups"),
    ],
)
def test_bad_lines(tmp_path, line, words):
    (tmp_path / "log.jsonl").write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        read(tmp_path / "log.jsonl")


def test_bad_places(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "nothing.jsonl")
    with pytest.raises(UserError, match="keep_rollouts"):
        read(tmp_path)
