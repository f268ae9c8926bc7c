"""The harness: arms run once, in processes of their own; what is done stays done; verdicts keep to the rules."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy_claims

from burnish.claims.harness import find
from burnish.claims.harness.claim import Arm, Verdict
from burnish.claims.harness.overview import entry, rows
from burnish.claims.harness.verdicts import by_rule
from burnish.claims.harness.verify import verify
from burnish.runs.errors import UserError


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "scratch" not in path.parts)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """verify(**settings) of the toy at full size; a new process each time, as far as the toy's module goes."""

    def call(size="full", seeds=None, arms=(), **settings):
        path = toy_claims.write(tmp_path, **settings)
        for name in [name for name in sys.modules if name.startswith("burnish_user_toy")]:
            monkeypatch.delitem(sys.modules, name)
        return verify(path, size, seeds, str(tmp_path / "out"), 2, arms, command="burnish verify toy.py")[0]

    return call


def test_every_arm_runs_once_and_only_a_changed_setting_runs_again(toy, tmp_path):
    outcome = toy()
    assert (outcome.done, outcome.runs, outcome.failures) == (6, 6, ())
    assert outcome.verdict["status"] == "reproduced"
    assert outcome.verdict["counts"]
    ran = toy_claims.notes(tmp_path)
    jobs = ["grid/1 9", "grid/2 9", "main 0", "main 1", "other 0", "other 1"]
    assert sorted(ran) == sorted([*jobs, "shared 0", "shared 1", "shared 9"])
    assert ran.index("main 0") > max(ran.index("grid/1 9"), ran.index("grid/2 9")), "an arm waits for those it follows"
    folder = tmp_path / "out" / "toy" / "toy.1"
    named = [f"{job.replace(' ', '-seed')}.json" for job in jobs]
    assert files(folder) == sorted([*named, "plot.svg", "verdict.json"])

    found = json.loads((folder / "main-seed1.json").read_text())
    assert found["settings"] == {"rate": 2}, "the grid's choice is settled into the settings"
    assert found["result"] == {"value": 2, "base": "1", "threads": "1"}
    assert {"wall_seconds", "cpu_seconds", "command", "environment", "mark", "seed", "arm"} <= set(found)
    assert found["environment"]["versions"]["torch"]
    assert "executable" not in found["environment"]

    before = {name: (folder / name).read_bytes() for name in files(folder)}
    assert toy().verdict == outcome.verdict
    assert toy_claims.notes(tmp_path) == ran, "nothing is run again"
    assert {name: (folder / name).read_bytes() for name in files(folder)} == before

    toy(other={"rate": 5})
    assert sorted(toy_claims.notes(tmp_path)[len(ran) :]) == ["other 0", "other 1"], "a changed setting runs just that again"
    assert json.loads((folder / "verdict.json").read_text())["reason"] == "the best is 5"
    (folder / "other-seed0.json").write_text('{"arm": "oth')
    toy(other={"rate": 5})
    assert toy_claims.notes(tmp_path)[-1] == "other 0", "a torn file is no result"


def test_a_failing_arm_is_reported_and_the_rest_still_runs(toy, tmp_path):
    outcome = toy(size="smoke", other={"do": "fail"})
    assert [(one.arm, one.seed) for one in outcome.failures] == [("other", 0)]
    assert "the moon was in the way" in outcome.failures[0].log
    assert (outcome.verdict, outcome.done, outcome.runs) == (None, 3, 4)
    outcome = toy(size="smoke", other={"do": "nan"})
    assert "not JSON compliant" in outcome.failures[0].log
    outcome = toy(size="smoke", arms=["main"])
    assert outcome.failures == ()
    assert outcome.done == 3
    outcome = toy(size="smoke")
    assert toy_claims.notes(tmp_path)[-1] == "other 0"
    assert outcome.verdict["counts"] is False
    shown = entry(outcome.claim, tmp_path / "out")
    assert shown["status"] == "smoke"
    assert rows([shown])[0]["verdict"] is None, "a smoke verdict never counts"


def test_an_arm_that_follows_one_that_was_not_run_says_so(toy, tmp_path):
    outcome = toy(size="smoke", arms=["main"])
    assert toy_claims.notes(tmp_path) == []
    assert "follows grid/1, grid/2" in outcome.failures[0].log
    with pytest.raises(UserError, match=r"no arm 'mian' at size smoke; it has main, grid/1"):
        toy(size="smoke", arms=["mian"])


def test_seeds_fewer_do_not_count_and_more_do(toy, tmp_path):
    assert toy(seeds=1).verdict["counts"] is False
    assert toy(seeds=3).verdict["seeds"] == [0, 1, 2]
    assert json.loads((tmp_path / "out/toy/toy.1/verdict.json").read_text())["counts"] is True


FIGURES = {"effect": 0.1, "interval_low": -0.02, "interval_high": 0.03, "baseline": 0.6, "headroom": 0.3}


@pytest.mark.parametrize(
    ("change", "status", "why"),
    [
        ({}, "not reproduced", ""),
        ({"baseline": None}, "inconclusive", "no figure for baseline"),
        ({"interval_low": float("nan")}, "inconclusive", "no figure for interval_low"),
        ({"interval_high": 0.1}, "inconclusive", "holds the claimed effect"),
        ({"headroom": 0.0}, "inconclusive", "no headroom"),
    ],
)
def test_not_reproduced_must_be_earned(change, status, why):
    figures = {name: value for name, value in (FIGURES | change).items() if value is not None}
    found = by_rule(Verdict("not reproduced", "it fell short", figures))
    assert found.status == status
    assert found.reason.startswith("it fell short")
    assert why in found.reason
    assert by_rule(Verdict("reproduced", "it did", {})).status == "reproduced"


def test_bad_claims_and_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'rl-catalogue'"):
        find.select("rl-catalog")
    with pytest.raises(UserError, match=r"has no claim 'rl-catalogue\.9'"):
        find.select("rl-catalogue.9")
    (tmp_path / "none.py").write_text("claims = ()[:0] or None\n")
    with pytest.raises(UserError, match="defines no tuple"):
        find.select(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match="a name is made of"):
        Arm("../up")
    with pytest.raises(ValueError, match="a verdict is one of"):
        Verdict("perhaps", "")  # type: ignore[arg-type]
