"""reasoning-gym through one adapter: the whole catalogue, its scorers untouched, and no answer ever evaluated."""

import importlib.util
import inspect
import random

import pytest

from burnish.runs.errors import UserError
from burnish.tasks import reasoning_gym as adapter
from burnish.tasks.reasoning_gym import EVALS, SYMPY, ReasoningGym, catalogue
from burnish.tasks.safe_answer import is_arithmetic, is_literal

have = importlib.util.find_spec("reasoning_gym") is not None
needs_gym = pytest.mark.skipif(not have, reason="reasoning-gym is not installed (extra: env)")
NO_REFERENCE = {"boxnet", "rush_hour"}
READS_ANYTHING = {"game_of_life_halting"}  # upstream: whatever is not "true" counts as "false"
COMPOSITE = {"datasets": [{"name": "leg_counting"}, {"name": "countdown", "weight": 2.0}]}
JUNK = ("", "garbage", '{"a": 1}', "((", "99999", "[1,2")


def made(name, **fields):
    return ReasoningGym(dataset=name, config=COMPOSITE if name == "composite" else {}, **fields)


@needs_gym
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", catalogue() if have else [])
def test_every_data_set_makes_the_same_problems_again_and_scores_them(name):
    task = made(name)
    (problem,) = task.items(1, 0)
    assert problem.prompt
    assert task.items(1, 0)[0].prompt == problem.prompt
    assert (problem.answer == "") == (name in NO_REFERENCE)
    columns = problem.scored_columns()
    if problem.answer:
        score = task.score(f"I think so.\n<answer>{problem.answer}</answer>", columns)
        assert (score.reward, score.success) == (1.0, 1.0)
    scores = [task.score(text, columns) for text in JUNK]
    assert all(0.0 <= score.reward <= 1.0 for score in scores)
    assert name in READS_ANYTHING or not any(score.success for score in scores)


@needs_gym
def test_the_catalogue_is_whole():
    assert len(catalogue()) >= 100
    assert {"composite", "codeio", "arc_agi", "sudoku"} <= set(catalogue())


@needs_gym
def test_scores_are_passed_through_and_splits_never_meet():
    import reasoning_gym

    task = made("leg_counting")
    train, test = task.items(80, 0), task.items(40, 5, "test")
    assert not {p.prompt for p in train} & {p.prompt for p in test}
    dataset = reasoning_gym.create_dataset("leg_counting", seed=1, size=5)
    for problem in train[:20]:
        entry = problem.columns["entry"]
        for text in (problem.answer, problem.answer + " legs", "0", ""):
            assert task.score(text, problem.scored_columns()).reward == dataset.score_answer(text, entry)
    half = task.score(train[0].answer + " legs", train[0].scored_columns())
    assert 0 < half.reward < 1
    assert half.success == 0.0
    assert made("leg_counting", success_at=0.1).score(train[0].answer + " legs", train[0].scored_columns()).success == 1.0


@needs_gym
def test_the_global_generator_is_left_alone():
    random.seed(3)
    state = random.getstate()
    made("list_functions").items(2, 0)
    assert random.getstate() == state


@needs_gym
def test_difficulty_follows_the_curriculum():
    easy, hard = (made("chain_sum", difficulty=level).items(20, 0) for level in (1, 4))
    assert sum(len(p.prompt) for p in hard) > sum(len(p.prompt) for p in easy)


@needs_gym
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dataset": "leg_countin"}, "did you mean 'leg_counting'"),
        ({"dataset": "leg_counting", "config": {"min_animal": 2}}, "did you mean 'min_animals'"),
        ({"dataset": "leg_counting", "config": {"min_animals": 0}}, "refuses its config"),
        ({"dataset": "leg_counting", "config": {"seed": 1}}, "config.seed"),
        ({"dataset": "leg_counting", "difficulty": 0}, "difficulty is 0"),
        ({"dataset": "gsm_symbolic", "difficulty": 2}, "no curriculum"),
        ({"dataset": "leg_counting", "success_at": 0.0}, "success_at"),
        ({"dataset": "composite"}, "refuses its config"),
    ],
)
def test_bad_settings_are_named(fields, words):
    with pytest.raises(UserError, match=words):
        ReasoningGym(**fields).validate()


def test_without_reasoning_gym_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'burnish\[env\]'"):
        adapter.catalogue()


@needs_gym
def test_the_guarded_scorers_are_all_that_evaluate():
    from reasoning_gym.factory import DATASETS

    def evaluates(cls):
        source = inspect.getsource(cls.score_answer).replace("literal_eval(", "").replace('eval(entry["answer"])', "")
        return "eval(" in source, "parse_expr(" in source or "sympify(" in source

    found = {name: evaluates(cls) for name, (cls, _) in DATASETS.items()}
    assert {name for name, (plain, _) in found.items() if plain} == EVALS
    # propositional_logic has a small parser of its own, also called parse_expr
    assert {name for name, (_, sympy) in found.items() if sympy} - {"propositional_logic"} == SYMPY


@needs_gym
@pytest.mark.parametrize("name", sorted(EVALS | SYMPY))
def test_no_answer_is_ever_run(name, tmp_path):
    task, target = made(name), tmp_path / "written"
    problem = task.items(1, 0)[0]
    for text in (f"open({str(target)!r}, 'w')", f"[open({str(target)!r}, 'w') for _ in (1,)]", f"__import__('os').mkdir({str(target)!r})"):
        assert task.score(text, problem.scored_columns()).success == 0.0
    assert not target.exists()
    assert task.score(problem.answer, problem.scored_columns()).success == 1.0


def test_what_passes_for_harmless():
    assert all(is_literal(text) for text in ("[[1, 2], [3]]", "['a', 'b']", "-1.5", "{'a': (1, 2)}"))
    assert not any(is_literal(text) for text in ("f()", "[x for x in (1,)]", "a.b", "1 if 1 else 2", "[" * 5000, ""))
    assert all(is_arithmetic(text) for text in ("x**2*sin(3*x)/6 + C", "-(1+2)*3/4", "exp(-x**2)", "sqrt(x)", "2**x", "7*5 - 7 - 4"))
    assert not any(
        is_arithmetic(text)
        for text in ("9**9**9", "((9**99)**99)**99", "9**99999", "x.func", "x[0]", "'a'", "lambda: 1", "f()", "__import__(1)", "a b", "1,2")
    )
    assert not is_arithmetic("+".join(["1"] * 1000))
