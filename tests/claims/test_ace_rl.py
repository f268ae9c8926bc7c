"""ace-rl.1: the program that decides, the holistic judge, the teacher, the smoke size and the verdict's rule."""

import json

import numpy as np
import pytest

from burnish.claims.ace_rl import claims, rules
from burnish.claims.ace_rl.settings import ARMS, FULL, GRID_SEED, SMOKE
from burnish.claims.ace_rl.world import ALPHABET, CODES, WORDS_AT_MOST, confused, demonstrations, grade, holistic, tasks
from burnish.claims.harness.verdicts import by_rule
from burnish.data.ace_rl.checklist import Requirement

CLAIM = claims[0]


@pytest.mark.parametrize(
    ("code", "text", "value"),
    [
        ("+a", "a.a", 1.0), ("+a", "ab", 0.5), ("+a", "b", 0.0), ("-a", "b", 1.0), ("-a", "ab", 0.5), ("-a", "aa", 0.0),
        ("=2", "AaBb", 1.0), ("=2", "Aa", 0.5), ("=2", "", 0.0), ("<AB", "AaB", 1.0), ("<AB", "BaA", 0.5), ("<AB", "A", 0.5),
        ("<AB", "C", 0.0), ("!x", "ab.x", 1.0), ("!x", "x.ab", 0.5), ("!x", "y", 0.0), ("~p", "apbp", 1.0), ("~p", "apbu", 0.5),
        ("~p", "aubu", 0.0), ("~p", "a", 0.0),
    ],
)  # fmt: skip
def test_the_program_decides(code, text, value):
    assert grade(code, text) == value


def test_tasks_can_be_met_and_are_split():
    assert len(set(ALPHABET)) == len(ALPHABET)
    made = tasks(200, 0)
    assert {len(task.codes) for task in made} == set(range(3, 9))
    assert {code for task in made for code in task.codes} <= set(CODES)
    assert len({len(task.prompt) for task in made}) == 1
    assert not {task.prompt for task in made} & {task.prompt for task in tasks(100, 0, "test")}
    for care, low, high in ((1.0, 0.97, 1.0), (0.3, 0.45, 0.65)):
        taught = demonstrations(150, 0, care)
        found = np.mean([np.mean([grade(code, text) for code in task.codes]) for task, text in taught])
        assert low <= found <= high
        assert max(len(text) for _, text in taught) <= WORDS_AT_MOST
        assert np.mean([abs(len(text) / task.length - 1) for task, text in taught]) < 0.1


def test_confusion_is_one_step_off_in_a_tenth_and_fixed():
    texts = [text for _, text in demonstrations(600, 1, 0.5)]
    item = Requirement("+a", "d", "+a")
    found = [confused(item, text, "i") for text in texts]
    steps = np.abs(np.array(found) - [grade("+a", text) for text in texts])
    assert set(steps) == {0.0, 0.5}
    assert np.mean(steps > 0) == pytest.approx(0.1, abs=0.03)
    assert [confused(item, text, "i") for text in texts] == found
    assert all(confused(item, text, "i", rate=0.0) == grade("+a", text) for text in texts)


def test_the_holistic_judge_likes_fluent_texts_and_knows_nothing_of_the_task():
    good = [holistic(text, "i", noise=0.0) for _, text in demonstrations(50, 2, 0.5)]
    bad = [holistic(".p.p..ApAp", "i", noise=0.0), holistic("", "i", noise=0.0)]
    assert min(good) > max(bad)
    assert all(1 <= holistic(text, "i", noise=1.0) <= 10 for _, text in demonstrations(50, 2, 0.5))
    assert holistic("Aap.", "i") == holistic("Aap.", "i")


def test_the_smoke_size_runs_and_gives_json(tmp_path):
    shared = {}
    found = []
    for arm in CLAIM.arms("smoke"):
        seed = (arm.seeds or CLAIM.seeds("smoke"))[0]
        if seed not in shared:
            shared[seed] = tmp_path / str(seed) / "shared"
            shared[seed].mkdir(parents=True)
            CLAIM.shared(seed, shared[seed], "smoke")
        if arm.follows:
            past = [one for one in found if one["arm"] in arm.follows]
            arm = type(arm)(arm.name, {**arm.settings, **CLAIM.settle(arm, past)})
        folder = tmp_path / str(seed) / arm.name.replace("/", "_")
        folder.mkdir()
        made = json.loads(json.dumps(CLAIM.run(arm, seed, folder, "smoke")))
        found.append({"arm": arm.name, "seed": seed, "settings": dict(arm.settings), "result": made})
    verdict = CLAIM.verdict(found, "smoke")
    assert verdict.reason
    assert CLAIM.plot(found, verdict).startswith("<svg")
    assert [row["arm"] for row in CLAIM.table(found)] == list(ARMS)
    assert FULL.keys() == SMOKE.keys()
    full = CLAIM.arms("full")
    assert {arm.seeds for arm in full if arm.name.startswith("grid/")} == {(GRID_SEED,)}
    assert len(CLAIM.seeds("full")) >= 3
    assert GRID_SEED not in CLAIM.seeds("full")


def invented(checklist=0.9, holistic=0.6, ratio=2.0, without=0.4, base=0.55):
    met = {"checklist": checklist, "holistic": holistic, "no-length": checklist, "self-verifier": 0.8}
    error = {"checklist": 0.1, "holistic": 0.1, "no-length": without, "self-verifier": 0.1}
    found = []
    for seed, shift in ((1, -0.01), (2, 0.0), (3, 0.01)):
        std = dict.fromkeys(ARMS, 0.1) | {"checklist": 0.1 * ratio * (1 + shift)}
        parts = {"checklist: ace_rl/checklist": 0.2, "holistic: holistic": 0.1}
        zero = dict.fromkeys(ARMS, 0.0)
        found.append(
            {"arm": "step-0", "seed": seed, "settings": {}, "result": {"std": std, "zero": zero, "std_of": parts, "verifier": 0.8}}
        )
        for arm in ARMS:
            final = {
                "satisfaction": met[arm] + shift * (arm == "checklist"),
                "all_met": 0.1,
                "length": 50,
                "length_error": error[arm] + shift,
            }
            start = {"satisfaction": base, "all_met": 0.0, "length": 50, "length_error": 0.15}
            result = {"base": start, "final": final, "zero": 0.1, "steps": 9, "tokens": 9.0}
            found.append({"arm": arm, "seed": seed, "settings": {"rate": 1e-3}, "result": result})
    return found


def test_the_rule_gives_each_verdict():
    def status(**given):
        return by_rule(CLAIM.verdict(invented(**given), "full")).status

    assert status() == "reproduced"
    assert status(checklist=0.61) == "not reproduced"
    assert status(ratio=1.1) == "not reproduced"
    assert status(without=0.1) == "inconclusive", "the length term's need is not shown"
    assert status(ratio=1.49) == "inconclusive", "the interval holds 1.5"
    assert status(checklist=0.61, base=0.7) == "inconclusive", "a baseline that got worse is not competent"
    assert status(checklist=0.972, holistic=0.97) == "inconclusive", "no headroom"
    assert CLAIM.verdict(invented(), "full").figures["the length term is needed"] == "shown"
    assert rules.interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
    best = [
        {"arm": "a", "settings": {"rate": rate}, "result": {"final": {"satisfaction": met}}} for rate, met in ((1e-3, 0.5), (3e-3, 0.6))
    ]
    assert CLAIM.settle(CLAIM.arms("full")[-1], best) == {"rate": 3e-3}
