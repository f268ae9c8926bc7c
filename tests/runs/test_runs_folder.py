from __future__ import annotations

import enum
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.runs import stateio
from burnish.runs.errors import UserError
from burnish.runs.folder import Run


class Colour(str, enum.Enum):  # noqa: UP042 - the old kind, whose str() is not its value
    RED = "red"


def test_state_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    state = {
        "none": None, "flag": True, "int": 2**100, "float": 0.1 + 0.2, "text": "naïve\u2028", "colour": Colour.RED,
        "special": [float("nan"), float("inf"), -float("inf"), -0.0],
        "tuple": (1, (2, [3])), 1: "int key", "1": torch.arange(3), "a/b": torch.ones(1), "a": {"b": torch.zeros(1)},
        "tensors": [torch.randn(2, 3).to(kind) for kind in (torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool)],
        "view": torch.arange(12).reshape(3, 4).T[1:], "empty": torch.empty(0, 3), "scalar": torch.tensor(1.5),
        "arrays": [np.arange(4, dtype="u4"), np.float32(0.1), np.float64(0.1), np.arange(3, dtype=">i4"), np.array([True]), np.array(2.0)],
        "rng": generator.bit_generator.state, "tagged": {"$tensor": "not a tensor"}, "nothing": {}, "shared": [torch.ones(2)] * 2,
    }  # fmt: skip
    stateio.save(tmp_path, "s", state, lambda: {"head": 1})
    text = (tmp_path / "s.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))["head"] == 1
    found = stateio.load(tmp_path, "s")
    assert list(found) == list(state)
    assert {key: found[key] for key in ("none", "flag", "int", "float", "text", "tuple", 1, "tagged", "nothing", "rng")} == {
        key: state[key] for key in ("none", "flag", "int", "float", "text", "tuple", 1, "tagged", "nothing", "rng")
    }
    assert found["colour"] == "red"
    assert repr(found["special"]) == "[nan, inf, -inf, -0.0]"
    for key in ("tensors", "shared"):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found[key], state[key]))
    assert all(torch.equal(found[key], state[key]) for key in ("1", "a/b", "view", "empty", "scalar"))
    assert torch.equal(found["a"]["b"], torch.zeros(1))
    for a, b in zip(found["arrays"], state["arrays"]):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype.newbyteorder("=")
        assert a.shape == b.shape
    assert isinstance(found["arrays"][1], np.float32)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array(["a"]), {(1, 2): 3}, torch.zeros(2, dtype=torch.complex64)])
def test_state_that_cannot_be_kept_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(TypeError, match="part/x"):
        stateio.flatten({"part": {"x": value}})


def test_broken_state_is_named(tmp_path: Path) -> None:
    stateio.save(tmp_path, "s", {"a": torch.ones(5)})
    (tmp_path / "s.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match=r"s\.safetensors is missing or broken"):
        stateio.load(tmp_path, "s")


def test_metrics_are_strict_json_and_exact(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"a": 1}, ["burnish", "train"])
    row = {"x": 0.1, "f32": np.float32(0.1), "t": torch.tensor(2.5), "n": float("nan"), "i": -math.inf, "k": 3, "none": None, "text": "hi"}
    run.log(1, row)
    run.log(3, {"x": 1e-310})
    for line in run.metrics_path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    first, second = run.metrics()
    assert first == {"step": 1, **row, "f32": float(np.float32(0.1)), "t": 2.5, "n": first["n"]}
    assert math.isnan(first["n"])
    assert second["x"] == 1e-310
    with pytest.raises(ValueError, match="step 3 logged after those of step 3"):
        run.log(3, {})
    with pytest.raises(TypeError, match="metric 'bad' is a list"):
        run.log(4, {"bad": [1]})
    assert len(run.metrics()) == 2
    assert run.info["command"] == ["burnish", "train"]
    assert run.info["versions"]["torch"] == torch.__version__
    assert run.config == {"a": 1}


def test_torn_last_line_and_later_rows_are_dropped(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    for step in range(1, 6):
        run.log(step, {"x": step})
        run.save_rollouts(step, [{"text": "a\u2028b", "step": step}])
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 6, "x"')
    again = Run(run.path)
    assert [row["step"] for row in again.metrics()] == [1, 2, 3, 4, 5]
    again.log(6, {"x": 6})
    assert [row["step"] for row in again.metrics()] == [1, 2, 3, 4, 5, 6]
    again.drop_after(3)
    assert [row["step"] for row in again.metrics()] == again.rollout_steps() == [1, 2, 3]
    assert again.rollouts(3) == [{"text": "a\u2028b", "step": 3}]
    assert again.rollouts(9) == []
    again.log(4, {})
    again.metrics_path.write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        again.metrics()


def test_folders_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/run"):
        Run.create(tmp_path / "file" / "run", {})
    with pytest.raises(UserError, match="there is no run folder"):
        Run(tmp_path / "nothing")
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="results but no config"):
        Run.create(tmp_path / "stray", {}, resume=True)
    with pytest.raises(UserError, match="cannot write /proc"):
        Run.create("/proc/burnish", {})
