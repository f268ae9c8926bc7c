"""HICRA in training: the credit step, the shaper that marks and measures, the recipe, and a run of all three."""

from __future__ import annotations

import json
import math
import pathlib

import numpy as np
import pytest
import torch

from burnish.data.hicra import Grams
from burnish.models import tiny, tokenizer
from burnish.models.save import save_model
from burnish.recipes import papers
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.records import Group, Item, Rollout, Score, Turn
from burnish.rl.batch import Batch
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.chain import make_chain
from burnish.rl.credit.hicra import Hicra as Credit
from burnish.rl.credit.hicra import hicra_naive
from burnish.rl.credit.steps import Draft
from burnish.rl.objectives.tokens import TokenTable
from burnish.rl.rewards.hicra import ENTROPY, Hicra
from burnish.runs.config import build
from burnish.runs.errors import UserError
from burnish.tasks.completions import Completions

GOLDEN = pathlib.Path(__file__).parent / "golden_hicra"
WORDS = tokenizer.characters("abcdefghijklmnopqrstuvwxyz .0123456789")


# --- credit ---------------------------------------------------------------------------------------------------------------------------
def credit(reward, marks, steps, prompts=None, lengths=None):
    """Advantages of a batch whose column `planning` is `marks`."""
    lengths = lengths or [3] * len(reward)
    table = TokenTable.from_lengths(lengths, prompts or [0] * len(reward))
    batch = CreditBatch.make(table, torch.tensor(reward), measured={"column.planning": torch.tensor(marks, dtype=torch.float64)})
    return make_chain(steps)(batch).tokens


def test_the_token_map_is_golden():
    arrays = np.load(GOLDEN / "advantage.npz")
    assert set(arrays) == {"advantage", "planning", "mask", "out", "share_planning"}
    advantage, planning, mask = (torch.from_numpy(arrays[name]) for name in ("advantage", "planning", "mask"))
    chosen = mask.reshape(-1)
    table = TokenTable.from_lengths(mask.sum(1).tolist(), [0] * len(mask))
    marks = {"column.planning": planning.reshape(-1)[chosen].double()}
    batch = CreditBatch.make(table, torch.zeros(len(mask)), measured=marks)
    flat = advantage.reshape(-1)[chosen].double()
    out = torch.zeros_like(advantage).reshape(-1)
    out[chosen] = Credit()(Draft(batch, torch.zeros(len(mask)), flat, {}, tokens=flat)).tokens
    torch.testing.assert_close(out.reshape(mask.shape), torch.from_numpy(arrays["out"]), rtol=0, atol=1e-12)
    assert int((planning & mask).sum()) / int(mask.sum()) == pytest.approx(float(arrays["share_planning"]), abs=1e-12)
    torch.testing.assert_close(out[chosen], hicra_naive(flat, planning.reshape(-1)[chosen]), rtol=0, atol=1e-15)


def test_a_planning_token_counts_more_in_a_success_and_less_in_a_failure():
    found = credit([1.0, 0.0], [1, 0, 1, 0, 1, 0], ["group_mean", "hicra"])
    assert found.tolist() == pytest.approx([0.6, 0.5, 0.6, -0.5, -0.4, -0.5])


def test_unmarked_tokens_do_not_change_by_a_bit():
    draw = np.random.default_rng(0)
    reward, marks = draw.normal(size=8).tolist(), draw.integers(0, 2, 24).tolist()
    plain = credit(reward, marks, ["group_mean", "group_std"], [0] * 4 + [1] * 4)
    found = credit(reward, marks, ["group_mean", "group_std", {"name": "hicra", "alpha": 0.9}], [0] * 4 + [1] * 4)
    unmarked = torch.tensor(marks) == 0
    assert torch.equal(found[unmarked], plain[unmarked])
    assert bool((found[~unmarked] != plain[~unmarked]).all())
    assert bool((found.sign() == plain.sign()).all()), "no sign flips"
    for same in (credit(reward, [0] * 24, ["group_mean", "hicra"]), credit(reward, marks, ["group_mean", {"name": "hicra", "alpha": 0.0}])):
        assert torch.equal(same, credit(reward, marks, ["group_mean"]))


def test_a_group_without_variance_stays_zero():
    assert credit([1.0, 1.0], [1] * 6, ["group_mean", "hicra"]).tolist() == [0.0] * 6


@pytest.mark.parametrize("alpha", [1.0, 1.5, -0.1])
def test_alpha_stays_below_one(alpha):
    with pytest.raises(UserError, match="alpha"):
        make_chain(["group_mean", {"name": "hicra", "alpha": alpha}])


def test_the_step_comes_after_scales_of_whole_rollouts():
    with pytest.raises(UserError, match="scale of whole rollouts comes after a token map"):
        make_chain("group_mean >> hicra >> group_std")
    assert "planning" in make_chain("group_mean >> group_std >> hicra").describe()


# --- the shaper -----------------------------------------------------------------------------------------------------------------------
TEXTS = ["let us try another way 12", "go back and check. go back and check", "nothing 123", "let us try another way"]
GRAMS = Grams.of([["let us try another way", "try another way"], ["go back and check"]])


def group(texts=TEXTS, success=(1.0, 0.0, 0.0, 1.0)):
    """A group with these texts; every token's log-prob is -1."""
    ids = [[*WORDS(text)["input_ids"], WORDS.eos_token_id] for text in texts]
    rollouts = [Rollout("p", n, [Turn([1], one, np.full(len(one), -1.0))]) for n, one in enumerate(ids)]
    scores = [Score(float(one), success=one, extras={"mine": 1}) for one in success]
    return Completions(Item("p", [1], len(texts)), rollouts, list(texts)), scores


def shaped(shaper, texts=TEXTS, step=1, measured=None, **changes):
    """What the shaper made of the group, and told of it."""
    completions, scores = group(texts, *changes.values())
    out = shaper.shape(completions, scores, measured)
    shaper.observe(Batch(step, 0, [Group(completions.item, completions.rollouts, out)]))
    return out, shaper.metrics()


def test_the_shaper_writes_a_column_and_changes_no_score():
    out, told = shaped(Hicra(GRAMS, WORDS, subsample=2))
    for text, score, before in zip(TEXTS, out, group()[1]):
        assert (score.reward, score.success, score.parts, score.extras["mine"]) == (before.reward, before.success, before.parts, 1)
        marks = score.extras["planning"]
        assert len(marks) == len(text) + 1
        assert marks[-1] == 0, "the end of the sequence is no planning"
        assert set(marks) <= {0, 1}
    assert out[0].extras["planning"][:23] == [1] * 22 + [0]
    assert out[2].extras["planning"] == [0] * 12
    assert json.dumps(out[1].extras["hicra"]) == '{"occurrences": {"go back and check": 2}}'
    marked, tokens = 22 + 17 * 2 + 22, sum(len(text) + 1 for text in TEXTS)
    assert told["hicra/planning_share"] == pytest.approx(marked / tokens)
    assert told["hicra/occurrences"] == 6
    assert told["hicra/semantic_entropy"] == pytest.approx(-(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(2 / 6)))
    assert told["hicra/semantic_entropy_right"] == 0.0, "right completions know one strategy"
    assert 0 < told["hicra/semantic_entropy_fixed"] < math.log(2)
    assert told["hicra/perplexity_planning"] == told["hicra/perplexity_execution"] == pytest.approx(math.e)


def test_units_columns_and_rounds_of_a_step():
    _, told = shaped(Hicra(GRAMS, WORDS, unit="grams"))
    assert told["hicra/semantic_entropy"] == pytest.approx(math.log(3))
    assert "hicra/semantic_entropy_fixed" not in told, "fewer occurrences than the subsample"
    shaper = Hicra(GRAMS, WORDS, column="mine", name="again")
    completions, scores = group()
    batch = Batch(1, 0, [Group(completions.item, completions.rollouts, shaper.shape(completions, scores))])
    shaper.observe(batch)
    shaper.observe(batch)
    assert shaper.metrics()["hicra/occurrences"] == 12, "two rounds of one step"
    assert shaper.metrics() == {}, "a new step"


def test_token_entropies_of_planning_and_execution():
    shaper = Hicra(["go back and check"], WORDS, token_entropy=True)
    assert shaper.needs == (ENTROPY,)
    texts = ["go back and check 1"]
    measured = {ENTROPY.key: torch.tensor([2.0] * 5 + [0.5] * 12 + [1.0] * 3)}
    _, told = shaped(shaper, texts, measured=measured, success=(1.0,))
    assert told["hicra/entropy_planning"] == pytest.approx((5 * 2 + 12 * 0.5) / 17)
    assert told["hicra/entropy_execution"] == pytest.approx(1.0)
    assert told["hicra/high_that_plan"] == pytest.approx(5 / 6), "six of twenty tokens are the highest: five twos and a one"
    assert told["hicra/plan_that_is_high"] == pytest.approx(5 / 17)


def test_a_run_with_too_few_planning_tokens_is_refused_once():
    dull = ["nothing 123" * 3] * 4
    with pytest.raises(UserError, match=r"0\.000% of the first batch's .* set least: 0 to watch only"):
        shaped(Hicra(GRAMS, WORDS), dull)
    assert shaped(Hicra(GRAMS, WORDS, least=0.0), dull)[1]["hicra/semantic_entropy"] == 0.0
    shaper = Hicra(GRAMS, WORDS)
    shaped(shaper)
    shaped(shaper, dull)  # only the first batch is the probe
    again = Hicra(GRAMS, WORDS)
    again.load_state_dict(json.loads(json.dumps(shaper.state_dict())))
    shaped(again, dull)
    with pytest.raises(UserError, match="started with other grams"):
        Hicra(["go back and check"], WORDS).load_state_dict(shaper.state_dict())


def test_invalid_scores_do_not_count():
    completions, scores = group()
    scores[1].invalid = True
    shaper = Hicra(GRAMS, WORDS)
    out = shaper.shape(completions, scores)
    assert len(out[1].extras["planning"]) == completions.rollouts[1].n_loss_tokens
    shaper.observe(Batch(1, 0, [Group(completions.item, completions.rollouts, out)]))
    assert shaper.metrics()["hicra/occurrences"] == 4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"grams": "none.json"}, "cannot read the grams file none.json"),
        ({"grams": 3}, "neither a grams file nor a list of phrases"),
        ({"grams": ["a b"], "unit": "words"}, "unit is 'words'"),
        ({"grams": ["a b"], "subsample": 0}, "subsample is 0"),
        ({"grams": ["a b"], "least": 1.0}, "least is 1.0"),
        ({"grams": ["a b"], "tokenizer": 3}, "neither a folder or hub id"),
    ],
)
def test_what_the_shaper_refuses(arguments, says):
    with pytest.raises(UserError, match=says):
        Hicra(**arguments)


def test_without_a_tokenizer_it_says_how_to_set_one():
    shaper = Hicra(GRAMS)
    with pytest.raises(UserError, match=r"set it: \{name: hicra, grams"):
        shaper.shape(*group())
    shaper.bind(lambda ids: WORDS.decode(ids, skip_special_tokens=True))
    assert shaper.shape(*group())[0].extras["planning"][0] == 1


# --- recipe and run -------------------------------------------------------------------------------------------------------------------
def test_the_recipe_refuses_a_run_without_grams():
    for shapers in ([], ["hicra"], [{"name": "hicra"}], [{"name": "overlong", "grams": "x"}]):
        with pytest.raises(UserError, match="burnish method hicra extract"):
            papers.settings("hicra", {"recipe": "hicra", "shapers": shapers})
    fields = papers.settings("hicra", {"recipe": "hicra", "shapers": [{"name": "hicra", "grams": "g.json"}]})
    assert papers.settings("hicra", {"recipe": "hicra", "shapers": ["mine.py:marks"]}) == fields == papers.settings("hicra", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hicra")
    save_model(tiny.make("qwen3", WORDS, hidden=32, layers=1, max_length=64, seed=1), WORDS, folder / "model")
    (folder / "grams.json").write_text(json.dumps(list("abcdefghijklm")))
    return folder


def trained(world, name, **rl):
    """A run of two steps; a single letter between spaces or digits is a gram there, so that a random model marks some tokens."""
    fields = {
        "steps": 2, "learning_rate": 1e-3, "prompts_per_step": 2, "group_size": 4, "max_new_tokens": 12, "rewards": ["reward.py:even"],
        "shapers": [{"name": "hicra", "grams": str(world / "grams.json"), "tokenizer": str(world / "model")}], "slots": 8, **rl,
    }  # fmt: skip
    (world / "reward.py").write_text("def even(text, columns):\n    return sum(map(ord, text)) % 2 == 0\n")
    fields["rewards"] = [f"{world / 'reward.py'}:even"]
    config = {"stage": "rl", "seed": 1, "threads": 1, "output": str(world / name), "model": {"path": str(world / "model")}, "rl": fields}
    return train(build(TrainConfig, config), data=[{"prompt": text} for text in ("a b", "c d", "e f", "g h")])


def test_a_run_with_the_recipe_marks_measures_and_moves_otherwise_than_grpo(world):
    found = trained(world, "hicra", recipe="hicra")
    rows = found["run"].metrics()
    assert 0 < rows[0]["hicra/planning_share"] < 1
    assert rows[0]["hicra/occurrences"] > 0
    assert rows[0]["reward_std"] > 0
    score = found["run"].rollouts(1)[0]["scores"][0]
    assert set(score["extras"]["planning"]) <= {0, 1}
    own = {
        "preset": "grpo",
        "credit": "group_mean",
        "surrogate": {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28},
        "kl": {"beta": 0.0},
    }
    plain = trained(world, "grpo", objective=own)
    watched = plain["run"].metrics()
    assert watched[0]["hicra/semantic_entropy"] == rows[0]["hicra/semantic_entropy"], "the same measure without the credit"
    weights = [dict(one["policy"].model.named_parameters()) for one in (found, plain)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    blind = trained(world, "alpha0", objective={**own, "credit": ["group_mean", {"name": "hicra", "alpha": 0.0}]})
    assert all(torch.equal(one, weights[1][name]) for name, one in blind["policy"].model.named_parameters())


def test_a_run_whose_texts_hold_no_gram_is_refused(world):
    (world / "other.json").write_text('["quite another thing"]')
    shapers = [{"name": "hicra", "grams": str(world / "other.json"), "tokenizer": str(world / "model")}]
    with pytest.raises(UserError, match="tokens are planning"):
        trained(world, "dull", shapers=shapers)
    assert not (world / "dull").exists()
