"""Fixtures of the command line's tests: see `cli_world`."""

import os
import shlex

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import cli_world
import pytest
import torch


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return cli_world.make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with data and a reward in it; no network; the thread count is put back."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    for name, text in cli_world.FILES.items():
        (tmp_path / name).write_text(text)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


@pytest.fixture
def loads(monkeypatch):
    """The models whose weights were read."""
    from burnish.models import load

    found = []

    def reading(source, *rest):
        found.append(source)
        return original(source, *rest)

    original = load._pretrained
    monkeypatch.setattr(load, "_pretrained", reading)
    return found


@pytest.fixture
def burnish(here, models, capsys):
    """burnish(command, **places) -> (exit code, stdout, stderr), run in this process; {model} and the like stand for folders."""
    from burnish.cli import main

    def call(command: str, *more: str, **places: str):
        for name, path in {**models, **places}.items():
            command = command.replace("{" + name + "}", path)
        code = main([*shlex.split(command), *more])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
