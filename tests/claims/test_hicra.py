"""The claims of HICRA: the planted corpus, the task of kinds and strategies, the control arms, the smoke sizes, and the verdicts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from burnish.claims.harness.claim import Arm
from burnish.claims.harness.verdicts import by_rule
from burnish.claims.hicra import claims, corpus, extraction, gain, gauge, settings, training, world
from burnish.claims.hicra.credit import BoostAll, BoostUncertain
from burnish.claims.hicra.shapers import Placebo
from burnish.data.hicra.words import ngrams
from burnish.records import Item, Rollout, Score, Turn
from burnish.rl.credit.batch import CreditBatch
from burnish.rl.credit.steps import Draft
from burnish.rl.objectives.tokens import TokenTable
from burnish.tasks.completions import Completions


# --- worlds ---------------------------------------------------------------------------------------------------------------------------
def test_the_corpus_plants_what_it_says():
    shape = corpus.Shape(solutions=400, plans=6, routines=50, steps=2, usual=0.95, repeated=(4, 8))
    texts = corpus.corpus(shape, 3)
    truth = corpus.planted_ngrams((3, 5))
    assert texts == corpus.corpus(shape, 3)
    assert len({phrase for phrases in corpus.PLANTED for phrase in phrases}) == 36
    first = sum(text.lower().count(corpus.PLANTED[0][0]) for text in texts)
    others = sum(text.lower().count(phrase) for text in texts for phrase in corpus.PLANTED[0][1:])
    assert first + others == pytest.approx(200, abs=40)
    assert first / (first + others) == pytest.approx(0.95, abs=0.06)
    sentences = [text.lower().rstrip(".").split(". ") for text in texts]
    assert all(max(found.count(one) for one in found) >= 4 for found in sentences), "a step of its own, again and again"
    assert all(set(ngrams(phrase, 3, 5)) <= truth for phrases in corpus.PLANTED for phrase in phrases)
    assert corpus.precision_recall(["let us try", "no such thing"], truth) == {"precision": 0.5, "recall": 1 / len(truth), "grams": 2}


def test_a_problem_is_solved_by_its_strategy_alone():
    assert world.solution("now climb in twos", 6).split()[:7] == ["now", "climb", "in", "twos", "n8", "n10", "n1"]
    by = world.solvers(4)
    assert sorted(by) == sorted(world.PHRASES)
    assert len(set(world.solvers(4, kinds=1))) == 1
    drawn = world.problems(60, 4)
    assert [one.kind for one in drawn[:7]] == [0, 1, 2, 3, 4, 5, 0]
    assert {(one.kind, one.start) for one in drawn}.isdisjoint({(one.kind, one.start) for one in world.problems(60, 4, "test")})
    one = drawn[0]
    right = world.solution(by[0], one.start)
    assert world.check(right, one.row("a"))
    assert not world.check(world.solution(by[1], one.start), one.row("a"))
    assert not world.check(right + " n1", one.row("a"))
    assert world.executed(world.solution(by[1], one.start), one.start)
    assert not world.executed(right.rsplit(" ", 1)[0], one.start)
    words = world.tokenizer()
    assert words.decode(words(right)["input_ids"]) == right
    assert len(words(right)["input_ids"]) + 1 == world.NEW_TOKENS


def test_demonstrations_choose_at_random_and_slip_as_often_as_asked():
    rows = world.demonstrations(600, 2, 0.0)
    chosen = [" ".join(row["completion"].split()[:4]) for row in rows]
    assert all(90 - 50 < chosen.count(phrase) < 110 + 50 for phrase in world.PHRASES)
    starts = [int(row["prompt"].split()[0][1:]) for row in rows]
    assert all(world.executed(row["completion"], start) for row, start in zip(rows, starts))
    poor = world.demonstrations(600, 2, 0.1)
    whole = np.mean([world.executed(row["completion"], start) for row, start in zip(poor, starts)])
    assert whole == pytest.approx((1 - 0.1 * 10 / 11) ** world.LENGTH, abs=0.07)


# --- the control arms -----------------------------------------------------------------------------------------------------------------
def draft(entropy=None):
    table = TokenTable.from_lengths([4, 6], [0, 0])
    measured = {} if entropy is None else {"policy.entropy": torch.tensor(entropy, dtype=torch.float64)}
    start = Draft.start(CreditBatch.make(table, torch.tensor([1.0, 0.0]), measured=measured), {})
    return start.less(torch.full((2,), 0.5, dtype=torch.float64))


def test_the_boost_goes_to_the_most_uncertain_tokens():
    entropy = [0.0, 3, 1, 0, 2, 0, 0, 0, 0, 0]
    out = BoostUncertain(alpha=0.2, share=0.3)(draft(entropy)).tokens
    assert out.tolist() == pytest.approx([0.5, 0.6, 0.6, 0.5, -0.4, -0.5, -0.5, -0.5, -0.5, -0.5])


def test_boosts_of_all_arms_have_the_same_mean():
    plain = draft().spread()
    planning = torch.zeros(10, dtype=torch.bool)
    planning[[0, 1, 4, 5, 6]] = True  # half of each
    marked = torch.where(planning, plain + 0.2 * plain.abs(), plain)
    whole = BoostAll(alpha=0.2 * 0.5)(draft()).tokens
    assert float(whole.mean()) == pytest.approx(float(marked.mean()))
    arms = {name: training.credit_of(name) for name in settings.ARMS}
    assert arms["grpo"] == (["group_mean"], [])
    assert arms["whole"][0][1]["alpha"] == pytest.approx(arms["hicra"][0][1]["alpha"] * world.PLANNING)
    assert arms["entropy"][0][1]["share"] == world.PLANNING


def test_the_placebo_marks_as_many_other_tokens():
    planning = [1, 1, 0, 0, 0, 0, 1]
    rollouts = [Rollout("p", n, [Turn([1], list(range(7)), np.zeros(7))]) for n in range(20)]
    group = Completions(Item("p", [1], 20), rollouts, [""] * 20)
    out = Placebo(1).shape(group, [Score(0.0, extras={"planning": planning})] * 20)
    marks = np.array([one.extras["placebo"] for one in out])
    assert (marks.sum(1) == 3).all()
    assert not (marks & np.array(planning)).any()
    assert len({tuple(row) for row in marks.tolist()}) == 2, "both places of three tokens in a row"
    assert [one.extras for one in Placebo(1).shape(group, [Score(0.0, extras={"planning": planning})] * 20)] == [one.extras for one in out]


def test_steps_to_the_target_are_read_off_the_smoothed_curve():
    assert training.smooth([0, 1, 1, 1, 1, 1, 1]).tolist() == pytest.approx([0, 0.5, 2 / 3, 0.75, 0.8, 1, 1])
    assert training.steps_to([0, 1, 1, 1, 1, 1, 1], 0.9) == pytest.approx(4.5)
    assert training.steps_to([1.0], 0.8) == 0.0
    assert training.steps_to([0.1] * 9, 0.8) is None


# --- arms and smoke -------------------------------------------------------------------------------------------------------------------
def test_every_arm_has_the_same_grid_on_a_seed_not_used_later():
    arms = gain.arms("full")
    main = {arm.name: arm for arm in arms if not arm.name.startswith("grid/")}
    assert set(main) == {*(f"good/{name}" for name in settings.ARMS), "poor/grpo", "poor/hicra"}
    for arm in main.values():
        grid = [one for one in arms if one.name in arm.follows]
        assert [one.settings["rate"] for one in grid] == list(settings.RATES)
        assert all(one.seeds == (settings.GRID_SEED,) and {**one.settings, "rate": 0} == {**arm.settings, "rate": 0} for one in grid)
    assert settings.GRID_SEED not in gain.seeds("full")
    assert len(gain.seeds("full")) >= 5

    def row(rate, reached, last):
        return {"settings": {"rate": rate}, "result": {"reached": reached, "success": [0.0] * 100, "last": last}}

    assert gain.settle(Arm("good/grpo"), [row(1e-4, 90.0, 0.8), row(3e-4, 60.0, 0.8), row(1e-3, None, 0.9)]) == {"rate": 3e-4}
    assert gain.settle(Arm("poor/grpo"), [row(1e-4, None, 0.4), row(3e-4, None, 0.5), row(1e-3, None, 0.5)]) == {"rate": 3e-4}


@pytest.mark.parametrize("claim", claims, ids=lambda claim: claim.id)
def test_smoke_sizes_run_and_give_json(claim, tmp_path):
    found = []
    for arm in claim.arms("smoke"):
        for seed in arm.seeds or claim.seeds("smoke"):
            folder = tmp_path / str(seed) / arm.name.replace("/", "-")
            folder.mkdir(parents=True)
            if claim.shared is not None and not (folder.parent / "shared").exists():
                claim.shared(seed, folder.parent / "shared", "smoke")
            settled = claim.settle(arm, [one for one in found if one["arm"] in arm.follows]) if claim.settle and arm.follows else {}
            done = Arm(arm.name, {**arm.settings, **settled})
            made = json.loads(json.dumps(claim.run(done, seed, folder, "smoke"), allow_nan=False))
            found.append({"arm": arm.name, "seed": seed, "settings": dict(done.settings), "result": made})
    verdict = claim.verdict(found, "smoke")
    assert verdict.reason
    assert claim.plot(found, verdict).startswith("<svg")
    assert claim.table is None or len(claim.table(found)) == 7


# --- verdicts -------------------------------------------------------------------------------------------------------------------------
def extracted(precision, recall, plain=0.4):
    scores = {"precision": precision, "recall": recall, "grams": 100}
    rest = {name: {"precision": plain, "recall": plain, "grams": 100} for name in ("frequency", "frequency_of_as_many")}
    return [{"arm": "recurring", "seed": seed, "result": {"clusters": scores, **rest}} for seed in range(5)]


def test_verdicts_on_extraction():
    assert extraction.verdict(extracted(0.9, 0.85), "full").status == "reproduced"
    assert by_rule(extraction.verdict(extracted(0.9, 0.6), "full")).status == "not reproduced"
    plain = by_rule(extraction.verdict(extracted(0.9, 0.85, 0.95), "full"))
    assert plain.status == "inconclusive", "plain frequency does as well"


def run_of(arm, seed, reached, last=0.9):
    result = {
        "reached": reached,
        "success": [0.2] * 200,
        "last": last,
        "final": {"right": last, "executed": 0.95},
        "base": {"right": 0.16, "executed": 0.95},
    }
    return {"arm": arm, "seed": seed, "settings": {"rate": 3e-4}, "result": result}


def runs(hicra=80.0, others=100.0, poor=(0.3, 0.3), grpo=None, noise=2.0):
    draw, out = np.random.default_rng(0), []
    for seed in range(5):
        for arm in settings.ARMS:
            steps = hicra if arm == "hicra" else grpo if arm == "grpo" and grpo is not None else others
            out.append(run_of(f"good/{arm}", seed, None if steps == "never" else float(steps + noise * draw.normal())))
        out += [run_of("poor/grpo", seed, None, poor[0] + 0.001 * seed), run_of("poor/hicra", seed, None, poor[1] + 0.01 * (-1) ** seed)]
    return out


def test_verdicts_on_the_gain():
    found = gain.verdict(runs(), "full")
    assert found.status == "reproduced"
    assert found.figures["steps saved against placebo"] == pytest.approx(20, abs=3)
    none = by_rule(gain.verdict(runs(hicra=100.0), "full"))
    assert none.status == "not reproduced"
    assert none.figures["headroom"] == pytest.approx(0.64)
    assert by_rule(gain.verdict(runs(hicra=92.0, noise=15.0), "full")).status == "inconclusive", "nothing is excluded"
    assert gain.verdict(runs(poor=(0.3, 0.4)), "full").status == "inconclusive", "the limit is not there"
    assert gain.verdict(runs(grpo="never"), "full").status == "inconclusive", "GRPO does not learn"
    assert by_rule(gain.verdict(runs(hicra=95.0, others=90.0, grpo=100.0, noise=0.5), "full")).status == "not reproduced"


def gauged(token=(0.2, 0.02), semantic=(1.7, 1.7), control=(1.7, 0.1), learned=0.9):
    def line(ends):
        return np.linspace(*ends, 50).tolist()

    out = []
    for seed in range(5):
        for arm, entropy in (("grpo", semantic), ("one-strategy", control)):
            curves = {"success": line((0.16, learned)), "token_entropy": line(token), "semantic_entropy": line(entropy)}
            right = [None, *line((entropy[0] - 0.001 * seed, entropy[1]))[1:]]
            out.append({"arm": arm, "seed": seed, "result": {**curves, "semantic_entropy_right_fixed": right}})
    return out


def test_verdicts_on_the_gauge():
    found = gauge.verdict(gauged(), "full")
    assert found.status == "reproduced"
    assert found.figures["grpo: token_entropy with pass rate"] == pytest.approx(-1)
    assert found.figures["grpo: semantic_entropy with pass rate"] == 0
    assert by_rule(gauge.verdict(gauged(semantic=(1.7, 0.6)), "full")).status == "not reproduced"
    assert gauge.verdict(gauged(token=(0.2, 0.18)), "full").status == "inconclusive"
    assert gauge.verdict(gauged(control=(1.7, 1.6)), "full").status == "inconclusive", "a gauge that cannot fall"
    assert gauge.verdict(gauged(learned=0.2), "full").status == "inconclusive"
