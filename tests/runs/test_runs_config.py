from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest

from burnish.runs.config import Config, describe_fields, diff_configs, load_config, to_yaml
from burnish.runs.errors import UserError


class Inner(Config):
    lr: float = pydantic.Field(1e-3, description="learning rate")
    betas: tuple[float, float] = (0.9, 0.95)


class Settings(Config):
    steps: int = 10
    name: str = "a"
    kind: Literal["sft", "rl"] = "sft"
    inner: Inner = Inner()
    where: Path = Path("out")
    flag: bool = False
    limit: int | None = None
    reward: Any = None
    save_total_limit: int | None = None

    @pydantic.field_validator("steps")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("it must be at least 1")
        return value


def test_file_flags_and_python_give_the_same(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("steps: 7\ninner:\n  lr: 1e-4\n  betas: [0.5, 0.6]\nwhere: runs/x\nreward: {name: overlong, scale: 2}\n")
    by_file = load_config(Settings, file, ["--flag", "--inner.lr", "3e-5", "--name=5", "--limit", "null"])
    words = "--steps 7 --inner.lr=3e-5 --inner.betas [0.5,0.6] --where runs/x --name 5 --flag --reward.name overlong --reward.scale 2"
    by_flags = load_config(Settings, None, words.split())
    by_python = Settings(
        steps=7, inner=Inner(lr=3e-5, betas=(0.5, 0.6)), where=Path("runs/x"), name="5", flag=True, reward={"name": "overlong", "scale": 2}
    )
    assert by_file == by_flags == by_python
    (tmp_path / "d.yaml").write_text(to_yaml(by_python))
    assert load_config(Settings, tmp_path / "d.yaml") == by_python
    assert load_config(Settings) == Settings()


def test_negative_numbers_and_infinity_are_values() -> None:
    config = load_config(Settings, None, ["--inner.lr", "-1.5", "--reward", ".inf"])
    assert config.inner.lr == -1.5
    assert config.reward == math.inf


@pytest.mark.parametrize(
    ("text", "flags", "parts"),
    [
        ("stepps: 3\n", [], ["c.yaml, line 1", "unknown key 'stepps'", "did you mean 'steps'"]),
        ("steps: 3\ninner:\n  lrr: 3\n", [], ["c.yaml, line 3", "'inner.lrr'", "did you mean 'lr'"]),
        ("", ["--inner.beta", "3"], ["flag --inner.beta", "did you mean 'betas'"]),
        ("name: x\nsteps: '3'\n", [], ["c.yaml, line 2", "'steps' is '3'", "wanted int"]),
        ("steps: true\n", [], ["c.yaml, line 1", "'steps' is True", "wanted int"]),
        ("", ["--steps", "many"], ["flag --steps", "'many'", "wanted int"]),
        ("steps: 0\n", [], ["c.yaml, line 1", "'steps': it must be at least 1"]),
        ("kind: dpo\n", [], ["'kind' is 'dpo'", "'sft' | 'rl'"]),
        ("steps: 3\nname: [a\n", [], ["c.yaml, line 3", "broken YAML"]),
        ("steps: 3\nsteps: 4\n", [], ["c.yaml, line 2", "already, in line 1"]),
        ("- 1\n", [], ["c.yaml", "mapping"]),
        ("", ["steps"], ["'steps' is not a flag"]),
        ("inner: 3\n", [], ["line 1", "'inner' is 3", "Inner"]),
    ],
)
def test_refusals_are_one_line_with_place_and_remedy(tmp_path: Path, text: str, flags: list[str], parts: list[str]) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(Settings, file, flags)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.yaml: No such file"):
        load_config(Settings, tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(Settings, tmp_path / "latin.yaml")


def test_diff_and_description() -> None:
    a, b = Settings(), Settings(steps=11, inner=Inner(lr=0.5))
    assert diff_configs(a, b) == ["steps: 10 -> 11", "inner.lr: 0.001 -> 0.5"]
    assert diff_configs(a, a) == []
    assert ("inner.lr", "float", "0.001", "learning rate") in describe_fields(Settings)
    assert [row[1] for row in describe_fields(Settings) if row[0] == "limit"] == ["int | None"]
