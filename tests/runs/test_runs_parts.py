from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.runs import atomic, parts, seeds
from burnish.runs.errors import UserError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "toy_parts" / "curricula"
    folder.mkdir(parents=True)
    (tmp_path / "toy_parts" / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("")
    (folder / "uniform.py").write_text(
        "from burnish.runs.config import Config\nclass Uniform(Config):\n    low: float = 0.1\npart = Uniform\n"
    )
    (folder / "several.py").write_text(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass A:\n    x: int = 1\n"
        "def score(completions, scale=1):\n    return scale\nparts = {'first': A, 'score': score, 'made': A(5)}\n"
    )
    (folder / "needs_extra.py").write_text("import a_library_nobody_has\npart = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "toy_parts.curricula"
    for name in [name for name in sys.modules if name.startswith("toy_parts")]:
        del sys.modules[name]


def test_parts_are_found_by_listing_and_made(package: str) -> None:
    assert set(parts.names(package)) == {"uniform", "first", "score", "made", "needs_extra"}
    assert parts.make(package, "uniform").low == 0.1
    assert parts.make(package, {"name": "uniform", "low": 0.5}).low == 0.5
    assert parts.make(package, {"name": "first", "x": 3}).x == 3
    assert parts.make(package, "made").x == 5
    assert parts.make(package, {"name": "score", "scale": 4})([]) == 4
    assert parts.make(package, "score")([]) == 1
    assert parts.make(package, f"{package}.several:A").x == 1
    assert parts.make(package, f"{package}.several.A").x == 1
    something = object()
    assert parts.make(package, something) is something


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("unifrom", ["unknown curriculum 'unifrom'", "did you mean 'uniform'"]),
        ({"name": "uniform", "lov": 1}, ["curriculum 'uniform'", "unknown key 'lov'", "did you mean 'low'"]),
        ({"name": "first", "xx": 1}, ["unknown argument 'xx'", "did you mean 'x'"]),
        ({"name": "score", "scal": 1}, ["did you mean 'scale'"]),
        ({"low": 1}, ["'name'"]),
        ("needs_extra", ["install a_library_nobody_has"]),
        ("json:loadds", ["json has no 'loadds'", "did you mean 'loads'"]),
        ("not_a_package:x", ["cannot load 'not_a_package:x'", "check the spelling"]),
    ],
)
def test_unknown_parts_name_the_nearest(package: str, spec: object, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parts.make(package, spec)
    for word in words:
        assert word in str(error.value)


def test_users_own_file(package: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def my_reward(completions):\n    return [1.0]\n")
    assert parts.make(package, f"{file}:my_reward")([]) == [1.0]
    file.write_text("def my_reward(completions):\n    return [2.0]\n")
    assert parts.make(package, f"{file}:my_reward")([]) == [2.0]
    with pytest.raises(UserError, match="did you mean 'my_reward'"):
        parts.find(package, f"{file}:my_rewards")
    file.write_text("x = 1\ny = x / 0\n")
    with pytest.raises(UserError, match=r"mine\.py, line 2: ZeroDivisionError"):
        parts.find(package, f"{file}:y")
    file.write_text("x = 1\n\ndef f(:\n")
    with pytest.raises(UserError, match=r"mine\.py, line 3: SyntaxError"):
        parts.find(package, f"{file}:f")
    with pytest.raises(UserError, match="cannot read"):
        parts.find(package, f"{tmp_path}/none.py:f")


def test_seeds_are_stable_and_separate() -> None:
    assert seeds.seed_for(0, "draw", 3) == 7627102663964155651
    found = {seeds.seed_for(*keys) for keys in [(1, "a"), ("1", "a"), ("ab", "c"), ("a", "bc"), (1,), ()]}
    assert len(found) == 6
    assert all(0 <= seed < 2**63 for seed in found)
    assert seeds.rng("x", 1).integers(100) == seeds.rng("x", np.int64(1)).integers(100)


def test_rng_state_round_trip() -> None:
    seeds.seed_everything(5)
    torch.randn(3), np.random.normal()
    state = seeds.get_rng_state()
    first = torch.randn(4).tolist(), np.random.normal(size=4).tolist()
    seeds.set_rng_state(state)
    assert (torch.randn(4).tolist(), np.random.normal(size=4).tolist()) == first


def test_atomic_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def failing() -> None:
        with atomic.folder(tmp_path / "a") as folder:
            (folder / "x").write_text("1")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        failing()
    assert list(tmp_path.iterdir()) == []
    for text in ("1", "2"):
        with atomic.folder(tmp_path / "a") as folder:
            (folder / "x").write_text(text)
    assert (tmp_path / "a" / "x").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path / "tmp-b-1").mkdir()
    assert atomic.sweep(tmp_path) == ["tmp-b-1"]
    with pytest.raises(UserError, match=r"cannot write .*No such file"):
        atomic.write_text(tmp_path / "missing" / "x", "1")
