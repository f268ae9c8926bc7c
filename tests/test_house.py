"""The walls of the house: floors, sizes, and what the source may not contain."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "burnish"
FLOORS = [
    *["records", "runs", "hardware", "models", "inference", "chat", "data", "tasks", "sft", "rl"],
    *["discovery", "agents", "evaluation", "reports", "recipes", "claims", "cli"],
]
FILES = sorted(SOURCE.rglob("*.py"))


def imports_of(path: pathlib.Path) -> set[str]:
    """Rooms of burnish that a file imports anywhere, inside functions too."""
    rooms = set()
    package = ["burnish", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names = [stem, *(f"{stem}.{alias.name}" for alias in node.names)]
        rooms |= {name.split(".")[1] for name in names if name.startswith("burnish.")}
    return rooms & set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_from_floors_below(path):
    parts = path.relative_to(SOURCE).parts
    if len(parts) == 1:
        return
    assert parts[0] in FLOORS, f"{parts[0]} is not a room of the plan"
    above = {room for room in imports_of(path) if FLOORS.index(room) > FLOORS.index(parts[0])}
    assert not above


def test_the_import_check_sees_an_upward_import(tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    (tmp_path / "runs").mkdir()
    bad = tmp_path / "runs" / "bad.py"
    bad.write_text("def f():\n    from burnish.rl import trainer\n")
    assert imports_of(bad) == {"rl"}
    bad.write_text("from ..rl.trainer import Trainer\n")
    assert imports_of(bad) == {"rl"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_small(path):
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= 500
    if lines > 300:
        assert "This file is long because" in text[:800], f"{lines} lines and no reason at its head"


def test_nothing_is_unpickled_or_evaluated():
    # `eval` and `exec` as calls of the built-in; torch.load and pickle anywhere.
    bad = re.compile(r"\bpickle\b|torch\.load\(|(?<![\w.])(eval|exec)\(")
    found = [f"{path.name}: {line.strip()}" for path in FILES for line in path.read_text().splitlines() if bad.search(line.split("#")[0])]
    assert not [line for line in found if '"' not in line and "`" not in line]
