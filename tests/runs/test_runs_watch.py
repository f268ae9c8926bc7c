from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rich.console import Console

from burnish.runs import plots, progress, resources, threads, trackers
from burnish.runs.errors import UserError
from burnish.runs.folder import Run


def test_tensorboard_file_is_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run.create(tmp_path / "run", {"a": {"b": 1}})
    (tracker,) = trackers.make("tensorboard", run, {"a": {"b": 1}})
    for step in range(1, 5):
        tracker.log(step, {"loss": 1 / step, "note": "text", "nothing": None})
    tracker.finish()
    (tracker,) = trackers.make(["tensorboard"], run, {})
    for step in (3, 4):  # resumed from checkpoint-2
        tracker.log(step, {"loss": 10.0 * step})
    tracker.finish()
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 0.5), (3, 30.0), (4, 40.0)]
    assert events.Tags()["scalars"] == ["loss"]


def test_unknown_and_missing_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "run", {})
    assert trackers.make(None, run, {}) == trackers.make("none", run, {}) == []
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        trackers.make("tensorbord", run, {})
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install wandb"):
        trackers.make("wandb", run, {})
    assert trackers.flat_scalars({"a": {"b": 1, "c": [1]}, "d": None}) == {"a.b": 1, "a.c": "[1]", "d": "None"}


def test_bar_is_silent_without_a_terminal_and_shows_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar(3, "train") as bar:
        bar.update(1, {"loss": 2.0})
    assert capsys.readouterr() == ("", "")
    file = io.StringIO()
    with progress.Bar(40, "train", console=Console(file=file, force_terminal=True, width=120)) as bar:
        for step in range(31, 36):
            bar.update(step, {"loss": 0.5, "reward": 0.25, "other": 1})
    text = file.getvalue()
    for wanted in ("train", "35/40", "loss 0.5 reward 0.25"):
        assert wanted in text
    silent = io.StringIO()
    with progress.Bar(3, "x", silent=True, console=Console(file=silent, force_terminal=True)) as bar:
        bar.update(1)
    assert silent.getvalue() == ""


def test_plots_are_the_same_bytes_and_valid_svg() -> None:
    def line() -> str:
        x = list(range(5))
        y = [0.0, 0.5, float("nan"), 0.7, 0.9]
        return plots.line_plot({"rl & co": (x, y), "sft": (x, x)}, "t", "step", "r", bands={"rl & co": (y, x)}, hlines={"base": 0.2})

    def bars() -> str:
        return plots.bar_plot({"base": 0.1, "rl": 0.6}, "t", "success", {"rl": (0.5, 0.7), "base": (float("nan"), 0.1)})

    for make in (line, bars):
        text = make()
        assert text == make()
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "20" + "26-" not in text
    assert "rl &amp; co" in line()
    with pytest.raises(ValueError, match="2 x values and 1 y values"):
        plots.line_plot({"a": ([1, 2], [1])})
    with pytest.raises(ValueError, match="band 'b'"):
        plots.line_plot({"a": ([1], [1])}, bands={"b": ([1], [1])})


def test_timer_memory_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = resources.Timer()
    with timer("a"):
        pass
    timer.add("a", 1.0)
    timer.add("b", 2.0)
    found = timer.take()
    assert set(found) == {"time/a", "time/b"}
    assert 1.0 <= found["time/a"] < 1.5
    assert timer.take() == {}
    assert 10 < resources.peak_memory_mb() < 1e6
    assert threads.choose_threads(1000) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.choose_threads(10**8) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert threads.choose_threads(10**8) == threads.available_cpus()
