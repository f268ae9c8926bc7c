"""`burnish forecast`: run folders and JSONL files in, a table and a plot out; refusals; one line for bad input."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from cli_world import RL, one_line

from burnish.rl.forecast.curve import Sigmoid
from burnish.runs.folder import Run
from burnish.tasks.eval_steps import StepSuccesses, write_successes


def evaluations(points=40, last=4.0, a=0.6, seed=0, prompts=60, samples=32):
    """(compute, each prompt's pass rate) of a run whose C_mid is 1000; the first before RL."""
    generator = np.random.default_rng(seed)
    compute = np.concatenate([[0.0], np.linspace(0.3, last, points) * 1000])
    chance = np.clip(Sigmoid(0.2, a, 1000.0, 1.8)(compute)[:, None] * np.linspace(0.4, 1.6, prompts), 0, 1)
    return compute, generator.binomial(samples, chance) / samples


def write_lines(path, compute, items, with_items=True, **changes):
    rows = []
    for c, rates in zip(compute, items):
        row = {"compute": float(c), "n_prompts": len(rates), "n_samples": 32, "pass_rate": float(rates.mean())}
        rows.append(row | ({"items": rates.tolist()} if with_items else {}) | changes)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(path, compute, items):
    path.mkdir()
    (path / "config.yaml").write_text("stage: rl\n")
    run = Run(path)
    for step, (c, rates) in enumerate(zip(compute, items)):
        run.log(step, {"eval/success": float(rates.mean()), **({"compute/flops": float(c)} if step else {})})
        write_successes(path, StepSuccesses(step, 32, {f"p{n}": (float(rate * 32), 32) for n, rate in enumerate(rates)}))


def test_a_file_is_forecast_and_the_later_points_are_on_the_plot(burnish, here):
    write_lines(here / "evals.jsonl", *evaluations(points=60, last=6.0, prompts=150))
    code, out, err = burnish("forecast evals.jsonl --fit-until 0.6")
    assert (code, err) == (0, "")
    assert "| evals |" in out
    assert "forecastable" in out
    assert "Plot: forecast.svg" in out
    text = (here / "forecast.svg").read_text()
    ElementTree.fromstring(text)
    assert "evals: fitted" in text
    assert "evals: later" in text
    code, out, _ = burnish("forecast evals.jsonl --fit-until 0.6 --at 8000 --json --output other.svg")
    found = json.loads(out)["runs"][0]
    assert found["clustered_by_prompt"] is True
    ahead = found["forecast"]
    assert ahead["compute"] == 8000
    assert ahead["prompts_low"] <= ahead["low"] <= ahead["rate"] <= ahead["high"] <= ahead["prompts_high"]
    assert ahead["rate"] == pytest.approx(Sigmoid(0.2, 0.6, 1000.0, 1.8)(8000), abs=0.04)
    assert abs(found["later_minus_curve"]) < 0.02
    assert (here / "other.svg").exists()


def test_a_short_window_gives_the_verdict_and_no_number(burnish, here):
    write_lines(here / "evals.jsonl", *evaluations())
    code, out, _ = burnish("forecast evals.jsonl --fit-until 0.22")
    assert code == 0
    assert "window too short" in out
    assert "B" not in out.splitlines()[2]
    found = json.loads(burnish("forecast evals.jsonl --fit-until 0.22 --at 1e5 --json")[1])["runs"][0]
    assert found["verdict"] == "window too short"
    assert found["reason"]
    assert (found["curve"], found["forecast"], found["controls"], found["later_minus_curve"]) == (None,) * 4


def test_run_folders_are_read_and_compared(burnish, here):
    for name, a in (("low", 0.5), ("high", 0.6)):
        write_run(here / name, *evaluations(points=60, last=6.0, a=a))
    code, out, err = burnish("forecast low high --at 12000")
    assert (code, err) == (0, "")
    assert "FLOPs" in out
    assert "low against high: A differs by more than 0.02; high has the higher ceiling." in out
    found = json.loads(burnish("forecast low high --json")[1])
    assert [run["forecast"]["compute"] for run in found["runs"]] == [12000.0] * 2, "twice the last where everything is fitted"
    assert found["comparisons"][0]["b"] is None
    by_steps = json.loads(burnish("forecast high --axis steps --json")[1])["runs"][0]
    assert by_steps["unit"] == "steps"


def test_without_prompts_rates_intervals_hold_for_these_prompts_only(burnish, here):
    write_lines(here / "evals.jsonl", *evaluations(points=60, last=6.0, prompts=300), with_items=False)
    code, out, _ = burnish("forecast evals.jsonl --r0 fit")
    assert code == 0
    assert "No prompt's own pass rate is known" in out
    assert json.loads(burnish("forecast evals.jsonl --json")[1])["runs"][0]["forecast"]["prompts_low"] is None


BAD = {
    "missing field": (lambda row: row.pop("n_samples"), "line 5: 'n_samples' is missing"),
    "rate": (lambda row: row.update(pass_rate=1.2), "line 5: pass_rate is 1.2; it must be a share from 0 to 1"),
    "text": (lambda row: row.update(pass_rate="0.5"), "line 5: pass_rate is '0.5'"),
    "falling compute": (lambda row: row.update(compute=1.0), "line 5: compute is 1, after"),
    "negative": (lambda row: row.update(compute=-1.0), "line 5: compute is -1.0; it must be a number of at least 0"),
    "other prompts": (lambda row: row.update(n_prompts=7), "line 5: n_prompts is 7, before it was 60"),
    "items": (lambda row: row.update(items=[0.5]), "line 5: items must be a list of pass rates"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_named(burnish, here, case):
    change, message = BAD[case]
    write_lines(here / "evals.jsonl", *evaluations(points=10))
    rows = [json.loads(line) for line in (here / "evals.jsonl").read_text().splitlines()]
    change(rows[4])
    (here / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = burnish("forecast evals.jsonl")
    assert (code, out) == (2, "")
    assert one_line(err)
    assert f"evals.jsonl, {message}" in err
    assert not (here / "forecast.svg").exists()


def test_other_bad_input_is_one_line(burnish, here):
    write_lines(here / "few.jsonl", *evaluations(points=4))
    write_lines(here / "fine.jsonl", *evaluations(points=20))
    compute, items = evaluations(points=20)
    write_lines(here / "late.jsonl", compute[1:], items[1:])
    (here / "torn.jsonl").write_text('{"compute": 1,')
    (here / "empty.jsonl").write_text("\n")
    write_run(here / "old", compute, items)
    lines = [json.loads(line) for line in (here / "old" / "metrics.jsonl").read_text().splitlines()]
    for row in lines:
        row.pop("compute/flops", None)
    (here / "old" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    for words, message in {
        "few.jsonl": "few.jsonl holds 4 evaluations after the start; a fit needs at least 6",
        "torn.jsonl": "torn.jsonl, line 1 is not JSON",
        "empty.jsonl": "empty.jsonl holds no evaluation",
        "gone": "gone does not exist",
        "late.jsonl": "late: none was made at compute 0",
        "old": "has no compute/flops; choose --axis steps",
        "old --axis step": "did you mean 'steps'?",
        "fine.jsonl --fit-until 1.5": "--fit-until is 1.5",
        "fine.jsonl --at -3": "--at is -3",
        "fine.jsonl --r0 much": "--r0 is 'much'",
        "fine.jsonl old --axis steps": "measure compute differently",
        ".": "is not a run folder",
    }.items():
        code, out, err = burnish(f"forecast {words}")
        assert (code, out) == (2, ""), words
        assert one_line(err)
        assert message in err or words == ".", err


def test_a_real_run_keeps_what_a_forecast_needs(burnish, here):
    code, _, err = burnish(f"{RL} --eval.steps 1 --eval.rows 2 --eval.samples 3 --rl.success_above 1 --rl.steps 2")
    assert code == 0, err
    rows = Run(here / "run").metrics()
    tokens, flops = ([row[f"compute/{kind}"] for row in rows[1:]] for kind in ("tokens", "flops"))
    assert 0 < tokens[0] < tokens[1] <= 2 * 2 * 2 * 4
    assert 0 < flops[0] < flops[1]
    kept = json.loads((here / "run" / "evals" / "steps" / "step-000002.json").read_text())
    rates = [right / n for right, n in kept["items"].values()]
    assert kept["samples"] == 3
    assert np.mean(rates) == pytest.approx(rows[-1]["eval/success"])
    code, _, err = burnish("forecast run")
    assert (code, "holds 2 evaluations after the start" in err) == (2, True)
