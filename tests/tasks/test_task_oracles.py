"""Each task against hand-made cases and independent solvers."""

import itertools
from fractions import Fraction

import pytest

from burnish.tasks.arithmetic import Arithmetic
from burnish.tasks.countdown import Countdown
from burnish.tasks.cups import Cups
from burnish.tasks.expressions import BadExpression, evaluate
from burnish.tasks.graph_path import GraphPath, shortest_path
from burnish.tasks.sort import Sort
from burnish.tasks.strings import Strings


@pytest.mark.parametrize(
    ("text", "value"),
    [("1+2*3", 7), ("(1+2)*3", 9), ("8/4/2", 1), ("8-4-2", 2), ("-3+5", 2), ("2*-3", -6), ("7/2", Fraction(7, 2)), (" 1 + 1 ", 2)],
)
def test_the_evaluator_keeps_precedence_and_fractions(text, value):
    assert evaluate(text)[0] == value


def test_the_evaluator_agrees_with_python_on_random_expressions():
    for problem in Countdown(difficulty=5, operators="+-*/").items(200, 0):
        names = {"__builtins__": {}}
        assert evaluate(problem.answer)[0] == eval(problem.answer, names)  # our own text, made by the task itself


@pytest.mark.parametrize(
    "text", ["", "1+", "(1", "1)", "1 2", "2**3", "1e3", "1.5", "a", "1/0", "1/(2-2)", "()", "١", "(" * 90 + "1", "1" * 19]
)
def test_the_evaluator_refuses_what_is_no_expression(text):
    with pytest.raises(BadExpression):
        evaluate(text)


def test_countdown_takes_any_right_expression_and_each_number_once():
    task, columns = Countdown(), {"answer": "(12-5)*(7-3)", "numbers": [3, 7, 12, 5], "target": 28}
    assert task.score("(7-3)*(12-5)", columns).success == 1.0
    assert task.score("7*(12-5)-3*7", columns).success == 0.0  # 7 twice
    assert task.score("7*4", columns).success == 0.0
    assert task.score("3+7+12+5", columns).success == 0.0  # 27
    assert task.score("28", columns).success == 0.0
    assert task.score("(7-3)*(12-5)/1", columns).success == 0.0
    halves = {"answer": "", "numbers": [1, 2, 4], "target": 2}
    assert Countdown(operators="+-*/").score("1/2*4", halves).success == 1.0
    assert task.score("1/2*4", halves).success == 0.0  # division is not among the operators


def test_arithmetic_counts_numbers_not_spelling():
    task = Arithmetic()
    assert [task.score(text, {"answer": "579"}).success for text in ("579", " 579 ", "0579", "579.", "5 79", "-579")] == [1, 1, 1, 0, 0, 0]
    backwards = Arithmetic(reverse_answer=True)
    assert backwards.score("975", {"answer": "975"}).success == 1.0
    assert all(int(p.answer[::-1]) == eval(p.prompt[:-1], {"__builtins__": {}}) for p in backwards.items(50, 0))
    for operation in ("subtract", "multiply", "mixed"):
        for problem in Arithmetic(operation=operation, terms=4, digits=2).items(50, 0):
            assert evaluate(problem.prompt[:-1])[0] == int(problem.answer)


def test_strings_by_hand():
    seen = set()
    for problem in Strings(length=6).items(300, 0):
        operation, *more, word = problem.prompt[:-1].split()
        k = int(more[0]) if more else 0
        expected = {
            "rev": "".join(reversed(word)),
            "rot": "".join(word[(i + k) % 6] for i in range(6)),
            "cae": "".join(chr((ord(c) - 97 + k) % 26 + 97) for c in word),
            "ded": "".join(c for i, c in enumerate(word) if c not in word[:i]),
        }[operation]
        assert problem.answer == expected
        seen.add(operation)
    assert seen == {"rev", "rot", "cae", "ded"}


def test_cups_by_permutation_matrices():
    for problem in Cups(cups=6, moves=5).items(50, 0):
        row, *moves = problem.prompt[:-1].split()
        place = {letter: i for i, letter in enumerate(row)}
        for a, b in ((int(m[0]) - 1, int(m[1]) - 1) for m in moves):
            place = {letter: b if i == a else a if i == b else i for letter, i in place.items()}
        assert problem.answer == "".join(sorted(place, key=place.get))


def test_sort_keeps_repeats_and_honours_its_switches():
    assert all(sorted(p.prompt[:-1]) == list(p.answer) for p in Sort(symbols="digits", length=9).items(50, 0))
    for problem in Sort(distinct=True, descending=True, kinds=8, length=6).items(50, 0):
        assert list(problem.answer) == sorted(set(problem.prompt[:-1]), reverse=True)
    assert Sort().score("abdfk\n", {"answer": "abdfk"}).success == 1.0
    assert Sort().score("abdf", {"answer": "abdfk"}).success == 0.0


def test_graph_path_takes_any_simple_path_and_nothing_else():
    columns = {"edges": ["ab", "bc", "be", "cd", "de"], "start": "a", "goal": "d", "answer": "abcd"}
    right = {"".join(p) for n in range(2, 6) for p in itertools.permutations("abcde", n) if GraphPath().score("".join(p), columns).success}
    assert right == {"abcd", "abed"}
    assert GraphPath().score("a-b-c-d", columns).success == 1.0
    assert not any(GraphPath().score(text, columns).success for text in ("abcbed", "ad", "bcd", "abc", "a", "abxd", "abcda"))
    assert shortest_path(["ab", "cd"], "a", "c") == ""


def test_graph_path_references_are_shortest_and_longer_than_one_edge():
    for problem in GraphPath(nodes=7, extra_edges=3).items(60, 0):
        edges, start, goal = problem.columns["edges"], problem.columns["start"], problem.columns["goal"]
        between = sorted({letter for edge in edges for letter in edge} - {start, goal})
        lengths = [
            n + 2
            for n in range(6)
            for middle in itertools.permutations(between, n)
            if all("".join(sorted(pair)) in edges for pair in itertools.pairwise((start, *middle, goal)))
        ]
        assert len(problem.answer) == min(lengths) >= 3
