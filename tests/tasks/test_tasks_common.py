"""What holds of every procedural task."""

import importlib
import itertools
import json

import numpy as np
import pytest

from burnish.records import Item, Rollout, Turn
from burnish.runs import parts
from burnish.runs.errors import UserError
from burnish.runs.seeds import rng
from burnish.tasks import Completions, constant_baseline, reward, to_items
from burnish.tasks.task import alphabet

NAMES = ["arithmetic", "countdown", "cups", "graph_path", "sort", "strings"]
JUNK = ["", " ", "\n\n", "1/0", "\x00", "абв", "²", "__import__('os')", "((1)", "1 2", "<|eos|>"]
JUNK += ["(" * 500, "-" * 300 + "1", "9" * 5000, "a" * 10_000]


def task_class(name):
    return importlib.import_module(f"burnish.tasks.{name}").part


@pytest.mark.parametrize("name", NAMES)
def test_problems_repeat_from_the_seed_and_the_splits_never_meet(name):
    task = task_class(name)()
    train, again, other = task.items(600, 0), task.items(600, 0), task.items(600, 7)
    test = task.items(200, 3, "test")
    assert train == again
    assert train != other
    assert len({problem.id for problem in train}) == len({problem.prompt for problem in train}) == 600
    seen = {problem.id for problem in train} | {problem.id for problem in other}
    assert not seen & {problem.id for problem in test}
    assert not {p.prompt for p in train + other} & {p.prompt for p in test}
    assert task.items(40, 0) == train[:40]  # a longer list begins with the shorter


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("difficulty", [2, 3, 6, 10])
def test_reference_answers_are_right_and_other_problems_answers_are_not(name, difficulty):
    task = task_class(name)(difficulty=difficulty)
    problems = task.items(60, 1)
    assert all(task.score(problem.answer, problem.scored_columns()).success == 1.0 for problem in problems)
    wrong = [task.score(b.answer, a.scored_columns()).reward for a, b in itertools.pairwise(problems) if a.answer != b.answer]
    assert sum(wrong) <= 6  # chance hits only (graphs and short rows may share an answer)
    for problem in problems[:5]:
        assert not any(task.score(text, problem.scored_columns()).success for text in JUNK)


@pytest.mark.parametrize("name", NAMES)
def test_the_dial_makes_problems_larger(name):
    cls = task_class(name)
    spaces = [cls(difficulty=d).space() for d in range(1, 11)]
    assert spaces == sorted(spaces)
    lengths = [np.mean([len(p.prompt) for p in cls(difficulty=d).items(20, 0)]) for d in (2, 5, 9)]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("name", NAMES)
def test_the_space_is_as_large_as_claimed_and_no_constant_answer_helps(name):
    task = task_class(name)()
    assert task.space() >= 100_000
    drawn = [draft.key or draft.question for draft in (task.draw(generator) for generator in [rng("space", name)] for _ in range(3000))]
    collisions = 3000 - len(set(drawn))
    assert collisions <= 80  # 3000^2 / 2 / 100,000 = 45 are expected of 100,000 equally likely problems
    found = constant_baseline(task, n=200, candidates=40)
    assert found.success < 0.05
    assert found.problems == 200


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_items_hold_what_the_scorer_needs(name):
    task = task_class(name)()
    problems = task.items(3, 0)
    row = json.loads(json.dumps(problems[0].row()))
    assert task.score(row["completion"], row).success == 1.0
    chars = alphabet(task, n=300)
    items = to_items(problems, lambda text: [chars.index(c) for c in text], group_size=2)
    rollouts = [Rollout(items[0].id, i, [Turn([1], [2], np.zeros(1))]) for i in range(3)]
    rollouts[2].stop = rollouts[2].stop.ERROR
    scores = reward(task)(Completions(items[0], rollouts, [problems[0].answer, "x?", "anything"]), {})
    assert [score.reward for score in scores] == [1.0, 0.0, 0.0]
    assert [score.invalid for score in scores] == [False, False, True]
    assert scores[2].success is None


@pytest.mark.parametrize("name", NAMES)
def test_words_style_asks_in_english_and_reads_the_answer_line(name):
    task = task_class(name)(style="words")
    problem = task.items(1, 0)[0]
    assert "Answer:" in problem.prompt
    columns = problem.scored_columns()
    for text in (problem.answer, f"Let me see.\nAnswer: {problem.answer}", f"so\nthe answer is: **{problem.answer}**"):
        assert task.score(text, columns).success == 1.0
    assert task.score(f"Answer: {problem.answer}\nAnswer: nothing", columns).success == 0.0


@pytest.mark.parametrize(
    ("name", "fields", "named"),
    [
        ("sort", {"difficulty": 0}, "difficulty"),
        ("sort", {"length": 1}, "length"),
        ("sort", {"kinds": 40}, "kinds"),
        ("sort", {"distinct": True, "kinds": 4, "length": 5}, "length"),
        ("arithmetic", {"digits": 0}, "digits"),
        ("arithmetic", {"terms": 1}, "terms"),
        ("arithmetic", {"operation": "subtract", "reverse_answer": True}, "reverse_answer"),
        ("countdown", {"operators": "+x"}, "operators"),
        ("countdown", {"count": 99}, "count"),
        ("countdown", {"most": 3}, "most"),
        ("strings", {"length": 100}, "length"),
        ("cups", {"cups": 12}, "cups"),
        ("cups", {"moves": 0}, "moves"),
        ("graph_path", {"nodes": 2}, "nodes"),
        ("graph_path", {"nodes": 4, "extra_edges": 3}, "extra_edges"),
    ],
)
def test_bad_settings_name_their_field(name, fields, named):
    task = task_class(name)(**fields)
    with pytest.raises(UserError, match=f"task {name}: {named} is ") as error:
        task.items(1, 0)
    assert "\n" not in str(error.value)


def test_too_small_a_space_and_a_wrong_split_are_refused():
    tiny = task_class("cups")(cups=2, moves=1)
    with pytest.raises(UserError, match=r"only \d of 50 different train problems"):
        tiny.items(50, 0)
    with pytest.raises(UserError, match="split is 'dev'"):
        tiny.items(1, 0, "dev")


def test_tasks_are_found_by_name():
    assert parts.make("burnish.tasks", {"name": "sort", "length": 4}).items(1, 0)[0].prompt.endswith(">")
    with pytest.raises(UserError, match="length"):
        parts.make("burnish.tasks", {"name": "sort", "lenght": 4})
    with pytest.raises(UserError, match="sort"):
        parts.make("burnish.tasks", "srot")


def test_completions_refuse_a_missing_text():
    with pytest.raises(ValueError, match="1 rollouts but 0 texts"):
        Completions(Item("a", [1]), [Rollout("a", 0, [])], [])
