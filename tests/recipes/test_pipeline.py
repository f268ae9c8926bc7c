"""rl.processes 2: what it is refused with, the synchronous trainer's bits at k = 0, and kills of either process."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
import resume_world
import yaml

from burnish.cli import main
from burnish.recipes.config import TrainConfig
from burnish.recipes.train import train
from burnish.runs.config import build

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks import pipeline_kills, pipeline_world

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
ASKED = {
    "processes 1": ({"processes": 1, "generator_device": "cpu"}, "set rl.processes 2, or leave it out"),
    "another backend": ({"backend": "backend.py:Other"}, "needs the built-in engine"),
    "the critic": ({"objective": "ppo", "rewards": ["reward.py:Valued"]}, "only the learner has"),
}
OTHER = """
class Other:
    name = "other"
    capabilities = frozenset({"token_ids", "logprobs", "load_weights", "fork", "inject"})

    check = bind = refresh = submit = close = lambda self, *given: None
"""
VALUED = """
from burnish.models.needs import Need
from burnish.records import Score


class Valued:
    name = "valued"
    needs = (Need(what="value", model="critic"),)

    def __call__(self, group, measured):
        return [Score(0.0) for _ in group.rollouts]
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with data and parts, but no model: everything here is refused before one is looked for, or after it is named."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "qwen3"}')
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model" / name).write_bytes(b"{}")
    (tmp_path / "train.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "backend.py").write_text(OTHER)
    (tmp_path / "reward.py").write_text(VALUED + "\n\ndef score(completions, **columns):\n    return [0.0 for _ in completions]\n")
    monkeypatch.chdir(tmp_path)
    return {
        "stage": "rl",
        "output": "run",
        "model": {"path": "model"},
        "data": {"path": "train.jsonl", "format": "prompt"},
        "rl": {"processes": 2, "rewards": ["reward.py:score"]},
    }


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_split_over_two_processes_is_refused_before_anything_loads(world, capsys, case):
    changes, said = ASKED[case]
    world["rl"] |= changes
    pathlib.Path("config.yaml").write_text(yaml.safe_dump(world))
    assert main(["train", "config.yaml"]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not pathlib.Path("run").exists()


def test_objects_and_launched_ranks_are_refused(world, monkeypatch):
    from burnish.runs.errors import UserError

    with pytest.raises(UserError, match=r"cannot be handed Python objects \(reward\).*rl.rewards"):
        train(build(TrainConfig, world), reward=lambda completions, **columns: [0.0 for _ in completions])
    with pytest.raises(UserError, match=r"\(data\).*data.path"):
        train(build(TrainConfig, world), data=[{"prompt": "a"}])
    from burnish.recipes.refusals import refuse_impossible

    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="accelerate launch"):
        refuse_impossible(build(TrainConfig, world), False, None)


@pytest.mark.slow
def test_without_lag_two_processes_end_in_the_bits_of_one(tmp_path):
    """A reward and a curriculum with a state, a KL to the reference, filters that draw again; only the queue's own state may differ."""
    resume_world.prepare(tmp_path)
    ends, metrics = {}, {}
    for name, processes in (("one", 1), ("two", 2)):
        config = resume_world.settings(tmp_path, "rl-fast", tmp_path / name)
        config["eval"] = {}  # an evaluation in the learner's process does not move the state of the generator's reward
        config["rl"] |= {"lag": 0, "processes": processes, "steps": 4}
        train(build(TrainConfig, config))
        found = resume_world.outcome(tmp_path / name)
        ends[name] = {file: bits for file, bits in found["files"].items() if not file.endswith("state.json")}
        metrics[name] = [[(key, value) for key, value in row if not key.startswith("pipeline/")] for row in found["metrics"]]
    assert metrics["one"] == metrics["two"]
    rollouts = [file for file in ends["one"] if file.startswith("rollouts")]
    weights = [file for file in ends["one"] if file.endswith("model.safetensors")]
    assert len(rollouts) == 4
    assert len(weights) == 2
    assert all(ends["one"][file] == ends["two"][file] for file in [*rollouts, *weights])


@pytest.mark.slow
def test_either_process_is_killed_and_nothing_finished_is_lost(tmp_path):
    size = pipeline_world.SMALL
    pipeline_world.prepare(tmp_path, size)
    config = pipeline_world.settings(tmp_path, tmp_path / "run", 3, size, processes=2, lag=size["lag"])
    found = pipeline_kills.run_with_kills(config, ["generator", "learner", "generator"], seed=1)
    assert len(found["kills"]) >= 2
    assert found["groups_finished_at_a_kill"] > 0
    assert found["oldest_token"] <= size["lag"]
    assert found["generator_starts"] >= 2  # the last one may not have been needed: its learner found all batches finished


@pytest.mark.slow
def test_a_generator_that_cannot_start_says_why_and_nothing_stays_behind(tmp_path):
    size = pipeline_world.SMALL
    pipeline_world.prepare(tmp_path, size)
    config = pipeline_world.settings(tmp_path, tmp_path / "run", 3, size, processes=2, lag=1)
    text = (tmp_path / "reward.py").read_text()
    (tmp_path / "reward.py").write_text(
        text + "\nimport sys\n\nif 'burnish.recipes.generator' in ' '.join(sys.orig_argv):\n    raise RuntimeError('no GPU here')\n"
    )
    config["rl"]["generator_restarts"] = 0
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run([sys.executable, "-m", "burnish", "train", str(file), "--json"], capture_output=True, text=True, env=ENV)
    assert done.returncode == 2
    assert "no GPU here" in done.stderr
    assert "Traceback" not in done.stderr
    assert pipeline_kills.generator_of(tmp_path / "run") is None
