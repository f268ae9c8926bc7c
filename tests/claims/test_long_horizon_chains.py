"""The claims of long-horizon chains: the golden test bed, the smoke sizes, and verdicts that can go either way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from burnish.claims.harness.verdicts import by_rule
from burnish.claims.long_horizon_chains import claims, cost, settings, stages, training, unseen, world
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "golden_long_horizon_chains" / "testbed.npz")


def test_the_golden_test_bed():
    for start, ops, states, written, reward in zip(*(GOLDEN[name] for name in ("x0", "ops", "states", "written", "reward"))):
        one = world.Chain(int(start), tuple(int(move) for move in ops))
        assert one.states == states.tolist()
        text = "".join(world.STATES[state] for state in written)
        assert world.check(text, one.row("x")) == bool(reward)
        assert world.whole(text, {"states": one.row("x")["completion"]}) == bool((written == states).all())


def test_prompts_tell_steps_apart_up_to_the_eighth():
    one = world.Chain(3, (1,) * 10)
    assert len(one.prompt) == len(world.Chain(0, (2,)).prompt) == 15
    assert len(set(one.prompt[1:9])) == 8
    assert one.prompt[8] == one.prompt[9] == one.prompt[10]
    assert one.prompt[11:] == "...>"
    assert world.walk(60, [1, 3, -3, -1]) == [0, 3, 0, 60]


def test_held_out_chains_are_never_trained_on():
    for h in (1, 3, 8):
        test = {one.prompt for one in world.chains(25, 0, "test", h)}
        assert len(test) == 25
        assert not test & {one.prompt for one in world.chains(3000, 1, "train", h)}
    with pytest.raises(UserError, match="ask for fewer"):
        world.chains(100, 0, "test", 1)


def test_the_careless_teacher_is_as_careful_as_told():
    generator = rng("careless test")
    chains = world.chains(3000, 0, "train", 3)
    assert world.careless(chains[0], [1.0, 1.0, 1.0], generator) == chains[0].row("x")["completion"]
    meant = np.zeros(3)
    for one in chains:
        place = one.start
        for step, state in enumerate(world.careless(one, [0.9, 0.45, 0.1], generator)):
            meant[step] += (place + one.moves[step]) % 61 == world.STATES.index(state)
            place = world.STATES.index(state)
    np.testing.assert_allclose(meant / 3000, [0.9 + 0.1 / 61, 0.45 + 0.55 / 61, 0.1 + 0.9 / 61], atol=0.03)


def test_stages_are_equal_in_tokens_and_arms_in_everything_else():
    own = {**settings.learning("full"), "rate": 3e-4}
    batch = own["prompts"] * own["group"]
    made = training.curriculum_of(training.CURRICULUM, own)
    spent = [steps * batch * (h + 1) for h, steps in enumerate(made["steps"], start=1)]
    assert len(spent) == 8
    assert max(abs(tokens / (own["tokens"] / 8) - 1) for tokens in spent) < 0.05
    configs = [training.config_of(arm, own, 0, Path("x")).model_dump() for arm in training.ARMS]
    for one in configs:
        one["rl"].pop("curriculum")
    assert all(one == configs[0] for one in configs)
    assert training.curriculum_of(training.ONLY_LONG, own)["first"] == 8
    for claim in claims:
        grid = [arm for arm in claim.arms("full") if arm.name.startswith("grid/")]
        assert all(arm.seeds == (settings.GRID_SEED,) for arm in grid)
        assert settings.GRID_SEED not in claim.seeds("full")
        assert len(claim.seeds("full")) >= 5
        names = {arm.settings["arm"] for arm in grid}
        assert {name: sorted(arm.settings["rate"] for arm in grid if arm.settings["arm"] == name) for name in names} == {
            name: sorted(settings.RATES) for name in names
        }


@pytest.mark.parametrize("claim", claims, ids=lambda claim: claim.id)
def test_smoke_sizes_run_and_give_json(claim, tmp_path):
    found = []
    for arm in claim.arms("smoke"):
        folder = tmp_path / str((arm.seeds or (0,))[0])
        if not (folder / "shared").exists():
            (folder / "shared").mkdir(parents=True)
            claim.shared((arm.seeds or (0,))[0], folder / "shared", "smoke")
        seed = (arm.seeds or (0,))[0]
        values = dict(arm.settings)
        if arm.follows:
            values |= claim.settle(arm, [one for one in found if one["arm"] in arm.follows])
        made = claim.run(type(arm)(arm.name, values), seed, folder / arm.name.replace("/", "-"), "smoke")
        found.append({"arm": arm.name, "seed": seed, "settings": values, "result": json.loads(json.dumps(made))})
    verdict = claim.verdict(found, "smoke")
    assert verdict.reason
    assert verdict.status != "not reproduced"
    assert all(not isinstance(value, float) or math.isfinite(value) for value in verdict.figures.values())
    assert claim.plot(found, verdict).startswith("<svg")
    assert {arm.name.rpartition("-")[0] for arm in claim.arms("smoke")} <= {arm.name.rpartition("-")[0] for arm in claim.arms("full")}


def of_stages(**by_arm):
    """Rows of claim 1: accuracy at h = 6, 7, 8 of five seeds, with a little spread."""
    rows = []
    for arm in training.ARMS:
        for seed in range(5):
            value = by_arm[arm.replace("-", "_")] + 0.01 * (seed - 2)
            accuracy = dict.fromkeys("678", value)
            rows.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "settings": {},
                    "result": {"accuracy": accuracy, "start": dict.fromkeys("678", 0.02), "tokens": 1},
                }
            )
    return rows


def test_the_verdict_on_stages():
    good = stages.verdict(of_stages(curriculum=0.9, uniform=0.8, only_L1=0.05, only_long=0.06), "full")
    assert good.status == "reproduced"
    assert good.figures["h=8: curriculum - uniform"] == pytest.approx(0.1)
    even = stages.verdict(of_stages(curriculum=0.8, uniform=0.8, only_L1=0.05, only_long=0.06), "full")
    assert by_rule(even).status == "not reproduced"
    full = stages.verdict(of_stages(curriculum=0.98, uniform=0.97, only_L1=0.05, only_long=0.06), "full")
    assert full.status == "reproduced", "a gain without spread is clear however small"
    no_room = stages.verdict(of_stages(curriculum=0.96, uniform=0.97, only_L1=0.05, only_long=0.06), "full")
    assert no_room.status == "inconclusive"
    nobody = stages.verdict(of_stages(curriculum=0.03, uniform=0.03, only_L1=0.03, only_long=0.03), "full")
    assert nobody.status == "inconclusive", "nothing was learned at all"
    noisy = of_stages(curriculum=0.9, uniform=0.8, only_L1=0.05, only_long=0.06)
    for row in noisy:
        if row["arm"] == "curriculum":
            row["result"]["accuracy"] = dict.fromkeys("678", 0.9 if row["seed"] % 2 else 0.6)
    assert stages.verdict(noisy, "full").status == "inconclusive"


def of_unseen(curriculum, only_1, start):
    rows = []
    for arm, value in ((training.CURRICULUM, curriculum), (training.ONLY_1, only_1), (unseen.START, start)):
        for seed in range(5):
            measures = {"pass@1": value / 4, "pass@k": value + 0.01 * ((seed + len(arm)) % 5 - 2), "last@k": 0.9}
            rows.append({"arm": arm, "seed": seed, "settings": {}, "result": {"unseen": dict.fromkeys(("9", "10", "11", "12"), measures)}})
    return rows


def test_the_verdict_on_unseen_horizons():
    assert unseen.verdict(of_unseen(0.8, 0.05, 0.03), "full").status == "reproduced"
    even = unseen.verdict(of_unseen(0.3, 0.3, 0.3), "full")
    assert by_rule(even).status == "not reproduced"
    assert unseen.verdict(of_unseen(0.9, 0.6, 0.1), "full").status == "inconclusive", "only-L1 does more than meet the start"
    assert unseen.verdict(of_unseen(0.99, 0.98, 0.98), "full").status != "not reproduced", "no headroom"


def of_cost(curriculum, only_long, budget=400_000.0):
    """Rows of claim 3 from two lists of tokens by H; None: not reached."""
    rows = []
    for seed in range(5):
        near = 1 + 0.02 * (seed - 2)
        climbed = {str(h): None if value is None else value * near for h, value in enumerate(curriculum, start=1)}
        rows.append({"arm": "curriculum", "seed": seed, "settings": {}, "result": {"cost": climbed, "budget": budget}})
        for h, value in enumerate(only_long, start=1):
            alone = {str(h): None if value is None else value / near}
            rows.append({"arm": f"only-long/H{h}", "seed": seed, "settings": {}, "result": {"cost": alone, "budget": budget}})
    return rows


def test_the_verdict_on_cost():
    square, double = [1000 * h**2 for h in range(1, 7)], [3000 * 2.2**h for h in range(6)]
    good = cost.verdict(of_cost(square, double), "full")
    assert good.status == "reproduced"
    assert good.figures["only-long: factor for each step"] == pytest.approx(2.2, rel=1e-3)
    assert cost.verdict(of_cost(square, [*double[:5], None]), "full").status == "reproduced"
    same = cost.verdict(of_cost(square, square), "full")
    assert by_rule(same).status == "not reproduced"
    assert cost.verdict(of_cost(double, double), "full").status == "not reproduced"
    assert cost.verdict(of_cost([*square[:5], None], double), "full").status == "inconclusive", "the curriculum did not climb"
    assert cost.verdict(of_cost(square, [3000, 9000, None, None, None, None]), "full").status == "inconclusive", "too few points for a law"


def test_laws_by_hand():
    exponential, power, slope = cost.misfit({h: 100.0 * 2**h for h in range(1, 6)}, 1e9)
    assert (exponential < 1e-12, power > 0.01, slope) == (True, True, pytest.approx(math.log(2)))
    exponential, power, _ = cost.misfit({h: 100.0 * h**3 for h in range(1, 6)}, 1e9)
    assert power < 1e-12 < exponential
    assert math.isnan(cost.misfit({1: 10.0, 2: 20.0, 3: None, 4: None}, 1e3)[0])


def test_grids_choose_by_trained_horizons():
    def row(rate, **result):
        return {"arm": f"grid/x-{rate}", "seed": 100, "settings": {"rate": rate}, "result": result}

    arm = claims[0].arms("full")[-1]
    assert stages.settle(arm, [row(1e-4, accuracy={"1": 0.5}), row(1e-3, accuracy={"1": 0.7})]) == {"rate": 1e-3}
    assert stages.settle(arm, [row(1e-3, accuracy={"1": 0.7}), row(1e-4, accuracy={"1": 0.7})]) == {"rate": 1e-4}
    reached = [row(1e-4, cost={"1": 5.0, "2": None}), row(1e-3, cost={"1": 9.0, "2": 20.0}), row(3e-3, cost={"1": 9.0, "2": 30.0})]
    assert cost.settle(arm, reached) == {"rate": 1e-3}
