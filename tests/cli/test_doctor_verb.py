"""`burnish doctor` as typed: words for people, JSON for machines, one line for what is no run."""

import json


def young_run(here):
    (here / "run").mkdir()
    (here / "run" / "config.yaml").write_text("stage: rl\nrl:\n  max_new_tokens: 8\n")
    (here / "run" / "start.json").write_text(json.dumps({"prompts": {"train": 9, "eval": 4, "shared": 2, "examples": ["a\x1b[31m>"]}}))
    (here / "run" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5, "loss": 0.1}\n{"step": 2, "rew')


def test_in_words(burnish, here):
    young_run(here)
    code, out, err = burnish("doctor run")
    assert (code, err) == (0, "")
    assert "verdict: faulty" in out
    assert "50 % of the evaluation prompts are in the training set" in out
    assert "remedy: they come from eval.path" in out
    assert "too short to tell" in out
    assert "metrics.jsonl, line 2: not a JSON object (torn" in out
    assert "\x1b" not in out, "what the data says is shown, never obeyed"


def test_as_json(burnish, here):
    young_run(here)
    code, out, _ = burnish("doctor run --json")
    found = json.loads(out)
    assert code == 0
    assert found["verdict"] == "faulty"
    assert found["findings"][0]["id"] == "eval_in_train"
    assert {one["state"] for one in found["invariants"]} <= {"held", "broken", "not measured"}


def test_no_run(burnish, here):
    code, _, err = burnish("doctor nowhere")
    assert code == 2
    assert "nowhere: no such run folder" in err
    (here / "empty").mkdir()
    assert burnish("doctor empty")[0] == 2
