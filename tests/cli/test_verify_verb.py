"""`burnish verify` and `burnish claims`: what they print, and what they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_world import one_line

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "claims"))
import toy_claims


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("verify rl-catalog --smoke", "did you mean 'rl-catalogue'"),
        ("verify rl-catalogue.7 --smoke", "it has rl-catalogue.1"),
        ("verify rl-catalogue --smoke --seeds 0", "--seeds must be at least 1"),
        ("verify rl-catalogue --smoke --jobs 0", "--jobs must be at least 1"),
        ("verify rl-catalogue --smoke --arms gpro", "no arm 'gpro' at size smoke"),
        ("verify gone.py", "cannot read gone.py"),
        ("verify rl-catalogue --smoke --output reward.py", "is a file, not a folder"),
        ("claims nothing-such", "there are no claims of 'nothing-such'"),
    ],
)
def test_bad_input_is_one_line(burnish, command, message):
    code, out, err = burnish(command)
    assert (code, out) == (2, "")
    assert one_line(err)
    assert message in err


def test_claims_lists_every_claim_and_tells_what_was_not_run(burnish, here):
    code, out, err = burnish("claims --output empty")
    assert (code, err) == (0, "")
    assert "rl-catalogue.1" in out
    found = json.loads(burnish("claims rl-catalogue --output empty --json")[1])
    assert [(one["claim"], one["status"], one["verdict"]) for one in found] == [("rl-catalogue.1", "not run", None)]
    assert "Not run yet: burnish verify rl-catalogue.1" in burnish("claims rl-catalogue.1 --output empty")[1]


def test_verify_prints_table_and_verdict_and_exits_1_where_an_arm_failed(burnish, here):
    toy_claims.write(here, other={"do": "fail"})
    code, out, err = burnish("verify toy.py --smoke --output out --jobs 3")
    assert (code, err) == (1, "")
    assert "FAILED: other, seed 0" in out
    assert "    RuntimeError: the moon was in the way" in out
    assert "No verdict yet: 3 of 4 runs are done" in out
    toy_claims.write(here)
    (here / "toy.py").write_text((here / "toy.py").read_text() + "\n")
    code, out, err = burnish("verify toy.py --smoke --output out")
    assert (code, err) == (0, "")
    assert "Verdict: smoke, does not count: reproduced. the best is 2" in out
    assert "| main   |     2 |" in out


@pytest.mark.slow
def test_the_learning_table_runs_at_smoke_size(burnish, here):
    code, out, err = burnish("verify rl-catalogue --smoke --json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert (found["done"], found["runs"], found["failures"]) == (7, 7, [])
    assert found["verdict"]["counts"] is False
    assert Path(found["folder"]) == Path("runs/claims/smoke/rl-catalogue/rl-catalogue.1")
    rows = {row["preset"] for row in found["verdict"]["table"]}
    assert rows == {"grpo", "reinforce", "cispo", "random-reward"}
    result = json.loads((here / found["folder"] / "grpo-seed1.json").read_text())
    assert result["result"]["updates"] >= 2
    assert result["common"]["model"]["hidden"] == 72


@pytest.mark.slow
def test_the_claims_of_scalerl_run_at_smoke_size(burnish, here):
    code, out, err = burnish("verify scalerl --smoke --json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [one["claim"] for one in found] == [f"scalerl.{number}" for number in range(1, len(found) + 1)]
    assert len(found) >= 2
    for one in found:
        assert (one["done"], one["failures"]) == (one["runs"], [])
        assert one["runs"] > 0
        assert one["verdict"]["counts"] is False
