"""hero.1: a task whose truth is known, smoke runs of all arms, and verdicts that can go either way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from burnish.claims.harness.claim import shared_of
from burnish.claims.harness.verdicts import by_rule
from burnish.claims.hero import claims, settings, training, world
from burnish.claims.hero.verdict import gap, verdict
from burnish.runs.errors import UserError

CLAIM = claims[0]


def test_values_verdicts_and_signs_by_hand():
    columns = {"value": 9, "asked": "7+5-3>"}
    cases = {"+9": (9, True, True), "+a-1": (9, True, False), "-1+5+5": (9, True, False), "+8": (8, False, False)}
    for text, (value, right, verified) in cases.items():
        assert world.value_of(text) == value
        assert (world.truth(text, columns), world.verifier(text, columns)) == (right, verified)
    assert [world.value_of(text) for text in ("9", "+", "+9+", "+1+1+1+1", "", "+0", "-r")] == [None] * 6 + [-27]
    assert world.signs("-1+a-") == 2


def test_the_scorer_is_graded_noisy_and_pleased_by_minus_signs(monkeypatch):
    columns = {"value": 9, "asked": "7+5-3>"}
    noisy = world.scorer("+9", columns)
    assert noisy == world.scorer("+9", columns) != world.scorer("+9", {"value": 9, "asked": "6+6-3>"})
    monkeypatch.setattr(world, "NOISE", 0.0)
    assert [world.scorer(text, columns) for text in ("+9", "+8", "+1", "+r", "x")] == pytest.approx([1, 0.875, 0, 0, 0])
    assert world.scorer("+a-1", columns) == pytest.approx(1 + world.HACK)
    assert world.scorer("-----", columns) == pytest.approx(world.MOST_SIGNS * world.HACK)


def test_problems_are_split_by_prompt_and_taught_in_both_forms():
    train, test = world.problems(2000, 0, "train"), world.problems(150, 0, "test")
    assert len({one.prompt for one in test}) == 150
    assert not {one.prompt for one in train} & {one.prompt for one in test}
    assert all(world.truth(one.answer, {"value": one.value}) for one in train)
    single = np.mean([len(one.answer) == 2 for one in train])
    assert single == pytest.approx(world.CANONICAL, abs=0.04)
    assert np.mean([world.truth(one.answer, {"value": one.value}) for one in world.problems(2000, 1, "train", 0.6)]) < 0.5
    assert world.problems(50, 3, "train", 0.5) == world.problems(50, 3, "train", 0.5)
    with pytest.raises(UserError, match="ask for fewer"):
        world.problems(3000, 0, "test")


def test_every_arm_runs_at_smoke_size(tmp_path):
    CLAIM.shared(1, tmp_path / "1" / "shared", "smoke")
    found, full = [], CLAIM.arms("full")
    final = CLAIM.arms("smoke")
    assert [arm.name for arm in final] == [arm.name for arm in full if arm.follows] == list(settings.SHAPERS)
    for arm in final:
        folder = tmp_path / "1" / arm.name
        assert shared_of(folder) == tmp_path / "1" / "shared"
        made = CLAIM.run(arm, 1, folder, "smoke")
        found.append({"arm": arm.name, "seed": 1, "settings": dict(arm.settings), "result": json.loads(json.dumps(made))})
    assert len({tuple(one["result"]["base"].values()) for one in found}) == 1, "all from the same weights"
    said = CLAIM.verdict(found, "smoke")
    assert said.reason
    assert CLAIM.plot(found, said).startswith("<svg")
    assert [row["arm"] for row in CLAIM.table(found)] == list(settings.SHAPERS)


def test_the_grid_serves_all_arms_and_is_not_used_again():
    arms = CLAIM.arms("full")
    grid = [arm for arm in arms if arm.name.startswith("grid/")]
    assert len(grid) == len(settings.SHAPERS) * len(settings.RATES)
    assert {arm.seeds for arm in grid} == {(settings.GRID_SEED,)}
    assert settings.GRID_SEED not in CLAIM.seeds("full")
    assert len(CLAIM.seeds("full")) >= 3
    tried = [{"settings": {"rate": rate}, "result": {"final": {"true": true}}} for rate, true in ((1e-4, 0.2), (3e-4, 0.3), (1e-3, 0.3))]
    assert CLAIM.settle(arms[-1], tried) == {"rate": 3e-4}
    config = training.config_of(
        type(grid[0])("x", {"rate": 1e-3, "shapers": settings.SHAPERS["hero"]}), settings.FULL, 0, training.Path("x")
    )
    assert config.rl.group_size == settings.FULL["group"]
    assert config.rl.objective["credit"] == "group_mean"


def results(final, signs, base=0.15, seeds=(1, 2, 3)):
    """Invented results. final, signs: by arm, one for each seed."""
    out = []
    for name in settings.SHAPERS:
        for place, seed in enumerate(seeds):
            end = {"true": final[name][place], "verified": 0.1, "signs": signs[name][place], "score": 1.0}
            start = {"true": base + 0.001 * place, "verified": 0.04, "signs": 0.5 + 0.01 * place, "score": 0.8}
            curve = [[0, *start.values()], [10, *end.values()]]
            one = {"base": start, "final": end, "curve": curve, "groups": {"all_wrong": 0.7, "mixed": 0.3}, "tokens": 1.0}
            out.append({"arm": name, "seed": seed, "settings": {"rate": 3e-4}, "result": one})
    return out


def world_of(hero, verifier=0.3, scorer=0.15, gated=0.2, scorer_signs=1.0, width=0.005):
    spread = (-width, 0.0, width)
    means = {"verifier": verifier, "scorer": scorer, "blend": 0.2, "gated": gated, "hero": hero, "hero-unweighted": hero}
    signs = dict.fromkeys(means, (0.1, 0.1, 0.1)) | {"scorer": tuple(scorer_signs + one for one in spread)}
    return results({name: tuple(mean + one for one in spread) for name, mean in means.items()}, signs)


def test_verdicts():
    said = by_rule(verdict(world_of(0.4), "full"))
    assert said.status == "reproduced"
    assert "gated fallback equals" not in said.reason
    equal = by_rule(verdict(world_of(0.4, gated=0.4), "full"))
    assert (equal.status, "gated fallback equals HERO" in equal.reason) == ("reproduced", True)
    worse = by_rule(verdict(world_of(0.29), "full"))
    assert worse.status == "not reproduced"
    assert worse.figures["interval_high"] < settings.EFFECT
    assert worse.figures["baseline"] == pytest.approx(0.3)
    unhacked = by_rule(verdict(world_of(0.4, scorer_signs=0.4), "full"))
    assert (unhacked.status, "is not hacked" in unhacked.reason) == ("inconclusive", True)
    learned = by_rule(verdict(world_of(0.4, scorer=0.3), "full"))
    assert learned.status == "inconclusive", "the scorer's arm got better: no hack"
    close = by_rule(verdict(world_of(0.31, width=0.02), "full"))
    assert close.status == "inconclusive"
    weak = by_rule(verdict(world_of(0.14, verifier=0.15, scorer=0.15), "full"))
    assert weak.status == "inconclusive", "no single signal learned: the baseline is not competent"
    assert gap(np.array([0.5]), np.array([0.2]))[0] == pytest.approx(0.3)
