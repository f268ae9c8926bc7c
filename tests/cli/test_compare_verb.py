"""`burnish compare` on real runs: the same twice is identical, unfinished runs are resumed, a failure names its log."""

import json

import pytest

from burnish.recipes.compare import refuse_unknown_metric
from burnish.recipes.config import TrainConfig
from burnish.runs.config import build
from burnish.runs.errors import UserError

CONFIG = """\
model: {{path: {model}}}
data: {{path: data.jsonl}}
eval: {{path: data.jsonl, steps: 1}}
rl: {{steps: 2, rewards: [reward.py:score], prompts_per_step: 2, group_size: 2, max_new_tokens: 4, slots: 8, beta: 0, learning_rate: 1e-3}}
"""


@pytest.mark.slow
def test_a_against_a_is_identical_and_finished_runs_stay(burnish, here, models):
    (here / "a.yaml").write_text(CONFIG.format(**models))
    code, out, err = burnish("compare a.yaml a.yaml --seeds 1 --output out --json --metric eval/reward")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["verdict"] == "identical runs"
    assert found["difference"]["mean"] == 0.0
    assert found["axis"] == "flops"
    stamp = (here / "out/a/seed0/metrics.jsonl").stat().st_mtime_ns
    code, out, _ = burnish("compare a.yaml rl.learning_rate=1e-2 --seeds 1 --output out2 --metric eval/reward")
    assert code == 0
    assert "rl.learning_rate: 0.001 -> 0.01" in out
    assert (here / "out2/comparison.html").exists()
    code, _, err = burnish("compare out/a a.yaml --seeds 1 --output out4 --metric eval/rewrad")
    assert (code, "did you mean 'eval/reward'?" in err, (here / "out4").exists()) == (2, True, False)
    again = json.loads(burnish("compare out/a out2/b --output out3 --json --metric eval/reward")[1])
    assert again["paired"]
    assert again["verdict"] != "identical runs"
    assert burnish("compare a.yaml a.yaml --seeds 1 --output out --json --metric eval/reward")[0] == 0
    assert (here / "out/a/seed0/metrics.jsonl").stat().st_mtime_ns == stamp


def test_what_cannot_be_compared_is_refused_before_anything_runs(burnish, here, models):
    (here / "a.yaml").write_text(CONFIG.format(**models))
    (here / "blind.yaml").write_text(CONFIG.format(**models).replace("eval: {path: data.jsonl, steps: 1}\n", ""))
    (here / "sft.yaml").write_text(
        "stage: sft\nmodel: {{path: {model}}}\ndata: {{path: data.jsonl}}\n"
        "eval: {{path: data.jsonl}}\nsft: {{steps: 1, eval_steps: 1}}\n".format(**models)
    )
    before = sorted(path.name for path in here.iterdir())
    for command, words in [
        ("compare a.yaml missing.yaml", "missing.yaml"),
        ("compare blind.yaml a.yaml", "eval.steps"),
        ("compare a.yaml rl.stepz=3", "rl.stepz"),
        ("compare rl.steps=3 a.yaml", "must be a YAML file"),
        ("compare a.yaml a.yaml --seeds 0", "--seeds"),
        ("compare . .", "holds no run"),
        ("compare a.yaml a.yaml --level 95", "--level is 95.0; it must lie between 0 and 1"),
        ("compare a.yaml a.yaml --effect -1", "--effect is -1.0"),
        ("compare a.yaml a.yaml --effect nan", "--effect is nan"),
        ("compare a.yaml a.yaml --workers 0", "--workers must be at least 1"),
        ("compare a.yaml a.yaml --metric eval/sucess", "did you mean 'eval/success'?"),
        ("compare a.yaml a.yaml --metric eval_loss", "--metric 'eval_loss' will not be logged"),
        ("compare a.yaml a.yaml --metric eval/pass@4", "--metric 'eval/pass@4' will not be logged"),
        ("compare a.yaml a.yaml --metric nosuch/name", "--metric 'nosuch/name' will not be logged"),
        ("compare sft.yaml sft.yaml --metric loos", "did you mean 'loss'?"),
        ("compare sft.yaml sft.yaml --metric eval/success", "will not be logged"),
    ]:
        code, _, err = burnish(command)
        assert code == 2
        assert words in err
    assert sorted(path.name for path in here.iterdir()) == before


def test_metrics_that_runs_log_are_taken(here, models):
    rl = build(TrainConfig, {"eval": {"samples": 4}})
    for name in ("eval/success", "eval/reward_low", "eval/pass@4", "reward", "completions/mean_length", "rewards/score/mean"):
        refuse_unknown_metric(name, rl)
    for name in ("loss", "eval_loss", "eval_mean_token_accuracy"):
        refuse_unknown_metric(name, build(TrainConfig, {"stage": "sft"}))
    own = build(TrainConfig, {"rl": {"shapers": ["mine.py:shape"]}})
    refuse_unknown_metric("mine/share", own)
    with pytest.raises(UserError, match="did you mean 'eval/success'"):
        refuse_unknown_metric("evla/success", own)


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_log(burnish, here, models):
    (here / "a.yaml").write_text(CONFIG.format(**models).replace("reward.py:score", "broken.py:score"))
    (here / "broken.py").write_text("def score(completions, **kwargs):\n    raise KeyError('gold')\n")
    code, _, err = burnish("compare a.yaml a.yaml --seeds 1 --output out")
    assert code == 2
    assert "2 of 2 runs failed" in err
    assert "out/logs/a-seed0.log" in err
