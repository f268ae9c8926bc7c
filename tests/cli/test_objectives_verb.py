"""`burnish objectives`: tables, formulas, differences, and unknown names."""

from __future__ import annotations

import json

from cli_world import RL

from burnish.recipes import papers
from burnish.rl.objectives import presets


def test_list_and_knobs(burnish):
    code, out, err = burnish("objectives list")
    assert (code, err) == (0, "")
    assert [name for name in presets.names() if name not in out] == []
    rows = json.loads(burnish("objectives list --json")[1])
    assert [row["preset"] for row in rows] == presets.names()
    grpo = next(row for row in rows if row["preset"] == "grpo")
    assert grpo["credit"] == "group_mean >> group_std"
    assert grpo["kl"] == "0.04 k3 in loss"
    knobs = json.loads(burnish("objectives knobs --json")[1])
    assert {
        "knob": "surrogate",
        "value": "cispo",
        "fields": "min_ratio=0.0, max_ratio=5.0",
        "formula": "S = sg(clip(rho, 0.0, 5.0)) A l",
    } in knobs
    assert "soft_gate" in burnish("objectives knobs")[1]


def test_show_as_text_latex_and_json(burnish):
    assert burnish("objectives show ppo")[1].rstrip("\n") == presets.preset("ppo").describe() + papers.brings("ppo")
    assert "rl.recipe ppo sets besides" in burnish("objectives show ppo")[1]
    assert "epochs 4" in burnish("objectives show ppo")[1]
    assert burnish("objectives show ppo --latex")[1].rstrip("\n") == presets.preset("ppo").describe(latex=True)
    found = json.loads(burnish("objectives show dr-grpo --json")[1])
    assert (found["name"], found["knobs"]["weights"]["max_length"]) == ("dr_grpo", "limit")
    assert presets.make(found["knobs"]) == presets.preset("dr_grpo")


def test_diff(burnish):
    lines = burnish("objectives diff grpo dapo")[1].splitlines()
    assert lines == ["surrogate.clip_high: 0.2 -> 0.28", "kl.beta: 0.04 -> 0.0", 'weights.name: "sequence_mean" -> "prompt_mean"']
    assert json.loads(burnish("objectives diff grpo dapo --json")[1]) == lines
    assert burnish("objectives diff grpo grpo")[1] == "no difference\n"


def test_bad_input_is_one_line(burnish):
    for command, words in {
        "objectives show grop": "did you mean 'grpo'?",
        "objectives diff grpo dapoo": "did you mean 'dapo'?",
        "objectives diff grpo": "diff wants two presets",
        "objectives show": "show wants one preset",
        "objectives list grpo": "list takes no name",
        "objectives lst": "invalid choice",
        "objectives": "arguments are required: action;",
    }.items():
        code, out, err = burnish(command)
        assert (code, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1


def test_ppo_trains_its_critic_from_the_command_line(burnish, here):
    code, _, err = burnish(f"{RL} --rl.objective ppo --rl.critic_learning_rate 1e-3 --rl.epochs 2")
    assert (code, err) == (0, "")
    row = json.loads((here / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert row["critic/loss"] > 0
    assert row["learning_rate/critic"] == 1e-3
