"""Actions of methods: found by listing packages, run through the command line."""

import json

import pytest

import burnish.data
import burnish.evaluation
from burnish import cli
from burnish.recipes import papers
from burnish.runs.errors import UserError

METHOD = '''
from burnish.runs.actions import Action


def _arguments(parser):
    parser.add_argument("file")


def _run(args):
    print(f"{args.file} {args.json} {args.command_line}")
    return 3


action = Action("count what is there", _arguments, _run, "Counts.")
actions = {"count": action}
command = action
evals = {"toy-size": action}
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A method `toy_method` in burnish.data, and the same in burnish.evaluation."""
    for package in (burnish.data, burnish.evaluation):
        folder = tmp_path / package.__name__
        folder.mkdir()
        (folder / "toy_method.py").write_text(METHOD)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])


def test_each_verb_finds_its_action(toy, capsys):
    for words in (["method", "toy-method", "count"], ["data", "toy-method"], ["eval", "toy-size"]):
        assert cli.main([*words, "rows.jsonl", "--json"]) == 3
        assert capsys.readouterr().out == f"rows.jsonl True burnish {' '.join(words)} rows.jsonl --json\n"
    with pytest.raises(SystemExit):
        cli.main(["method", "toy-method", "count", "--help"])
    assert "usage: burnish method toy-method count" in capsys.readouterr().out


def test_overviews_and_wrong_names(toy, capsys):
    assert cli.main(["method", "--json"]) == 0
    assert {"method": "toy-method", "action": "count", "": "count what is there"} in json.loads(capsys.readouterr().out)
    assert cli.main(["method", "toy-metod", "count"]) == 2
    assert "did you mean 'toy-method'" in capsys.readouterr().err
    assert cli.main(["method", "toy-method", "cuont"]) == 2
    assert "did you mean 'count'" in capsys.readouterr().err
    assert cli.main(["data", "toy-metod", "x"]) == 2
    assert "did you mean 'toy-method'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["eval", "--list"])
    assert "burnish eval toy-size" in capsys.readouterr().out


def test_recipes_are_found_by_listing_their_package():
    assert {"dapo", "scalerl"} <= set(papers.names())
    assert all(papers.settings(name, {})["objective"] for name in ("dapo", "scalerl"))
    with pytest.raises(UserError, match="did you mean 'dapo'"):
        papers.settings("dapoo", {})
