"""The project as others get it: skip reasons, the wheel, the file map, the README's Python."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import venv

import pytest

from skip_reasons import ALLOWED, unexpected

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_a_skip_reason_that_is_not_committed_fails_the_run(tmp_path):
    assert unexpected({"no gpu today"}, {}) == {"no gpu today"}
    assert unexpected(ALLOWED, {}) == set()
    assert unexpected({"BURNISH_DATA is not set"}, {"BURNISH_DATA": "x"})
    for name in ("conftest.py", "skip_reasons.py", "skip_reasons.txt"):
        (tmp_path / name).write_text((ROOT / "tests" / name).read_text())
    (tmp_path / "test_x.py").write_text("import pytest\n@pytest.mark.skip(reason='lazy')\ndef test_a(): pass\ndef test_b(): pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "lazy" in done.stdout


@pytest.mark.parametrize("page", ["map.py", "quickstart_page.py", "benchmarks_page.py", "compare_trials.py"])
def test_generated_pages_are_up_to_date(page):
    done = subprocess.run([sys.executable, f"tools/{page}", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"run `python tools/{page}`: {done.stdout}{done.stderr}"


def test_the_project_speaks_of_itself_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert len(tracked) > 100
    home = str(pathlib.Path.home())
    for name in tracked:
        text = (ROOT / name).read_bytes().decode("utf-8", "ignore") if (ROOT / name).is_file() else ""
        assert f"{home}/" not in text or len(home) < 5 or name == "tests/test_package.py", name


@pytest.mark.slow
def test_the_wheel_installs_and_runs_from_another_folder(tmp_path):
    """The wheel goes into an environment that has burnish's dependencies but not burnish."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path / "dist"], cwd=ROOT, check=True, capture_output=True
    )
    wheel = next((tmp_path / "dist").glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    site = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True).stdout.strip()
    dependencies = pathlib.Path(importlib.util.find_spec("torch").origin).parents[1]
    (pathlib.Path(site) / "dependencies.pth").write_text(f"{dependencies}\n")
    small = ["--sft_steps", "2", "--rl_steps", "2", "--demonstrations", "64", "--held_out", "16", "--rl_prompts", "2", "--group_size", "2"]
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "burnish", "quickstart", "--json", "--output", "out", *small],
        cwd=tmp_path / "elsewhere", capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    # exit code 1: with two steps no promise is kept, and it says so
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert {arm["name"] for arm in found["arms"]} == {"base", "SFT", "more SFT", "random rewards", "RL"}
    assert (tmp_path / "elsewhere" / "out" / "report.html").stat().st_size > 10_000
    where = subprocess.run([python, "-c", "import burnish; print(burnish.__file__)"], capture_output=True, text=True, cwd=tmp_path).stdout
    assert str(tmp_path / "env") in where


def test_the_readme_python_runs(tmp_path, monkeypatch):
    """The snippet itself, on a quickstart folder made small, in fifteen lines at most."""
    import torch

    from burnish.models.save import save_model
    from burnish.recipes.quickstart import QuickstartConfig
    from burnish.recipes.quickstart.run import make_base, write_data

    snippet = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    folder = pathlib.Path("runs/quickstart-seed0")
    config = QuickstartConfig(demonstrations=64, held_out=16, hidden=32)
    write_data(config, folder)
    model = make_base(config, folder)
    from transformers import AutoTokenizer

    save_model(model, AutoTokenizer.from_pretrained(folder / "base"), folder / "sft" / "checkpoint-250")
    shown = snippet.replace('"steps": 20', '"steps": 2')
    assert shown != snippet
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]\n", done.stdout), done.stdout
    assert (tmp_path / "runs/mine/checkpoint-2/model.safetensors").exists()
