"""Chains of problems: arithmetic by hand and golden, substitution that follows the solution, rejections with reasons, files, real data."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from burnish.data.long_horizon_chains import adapter, command, compose, make, read_problems, split
from burnish.data.long_horizon_chains import files as made
from burnish.data.long_horizon_chains.chain import Invalid, depends, depends_naive, refuse, walk
from burnish.data.long_horizon_chains.problems import read, solve
from burnish.runs.errors import UserError
from burnish.tasks.expressions import evaluate

GOLDEN = json.loads((Path(__file__).parent / "golden_long_horizon_chains" / "composition.json").read_text())
FUNCTIONS = {
    "x*2+3": lambda x: x * 2 + 3,
    "100-x": lambda x: 100 - x,
    "x//4": lambda x: x // 4,
    "x*x": lambda x: x * x,
    "x*0+7": lambda x: x * 0 + 7,
}
CLIPS = {
    "question": "Natalia sold clips to 48 friends in April, and then half as many in May. How many did she sell altogether?",
    "answer": "She sold 48/2 = <<48/2=24>>24 in May.\nAltogether 48+24 = <<48+24=72>>72.\n#### 72",
}
PACKS = {
    "question": "A pack costs 76 dollars. There is a discount of 25 dollars. What is left to pay?",
    "equation": "( 76.0 - 25.0 )",
    "answer": 51,
}


def apples(n, first=13):
    """n different problems `a + b` whose numbers can be replaced."""
    names = [f"{a} {b}" for a in ("red", "green", "old", "small", "sweet", "ripe") for b in ("apples", "pears", "plums", "figs", "dates")]
    return [
        {
            "question": f"Ann has {first + 2 * k} {names[k]} and gets {31 + 3 * k} more. How many?",
            "solution": f"{first + 2 * k} + {31 + 3 * k}",
        }
        for k in range(n)
    ]


def problems(rows):
    return read_problems(rows, evaluate).problems


@pytest.mark.parametrize("case", GOLDEN, ids=[case["case"] for case in GOLDEN])
def test_golden_chains(case):
    functions, between = [FUNCTIONS[one] for one in case["problems"]], [adapter(one).apply for one in case["adapters"]]
    found = walk(case["x1"], functions, between)
    assert list(found.inputs) == case["inputs"]
    assert list(found.answers) == case["answers"]
    assert found.answers[-1] == case["final_answer"]
    assert depends(found.answers, functions, between) == case["final_depends_on_answer_j"]
    assert depends_naive(case["x1"], functions, between) == case["final_depends_on_answer_j"]
    assert (not all(depends(found.answers, functions, between))) == case["shortcut"]
    fine = True
    for value in (*found.inputs, *found.answers):
        try:
            refuse(value)
        except Invalid:
            fine = False
    assert fine == case["valid"]


def test_adapters_by_hand_and_what_they_say():
    applied = {
        text: adapter(text).apply(Fraction(50)) for text in ("identity", "times 3", "plus 5", "minus 60", "modulo 20", "hours to minutes")
    }
    assert list(applied.values()) == [50, 150, 55, -10, 10, 3000]
    assert adapter("minutes to hours").apply(Fraction(90)) == Fraction(3, 2)
    assert adapter("hours to minutes").said("A1") == "the number of minutes in A1 hours"
    for bad in ("times 0", "modulo 0", "twice", "hours to miles"):
        with pytest.raises(UserError, match="adapter"):
            adapter(bad)


@pytest.mark.parametrize(("value", "reason"), [(-1, "negative"), (Fraction(1, 2), "fractional"), (100_001, "too large")])
def test_numbers_that_no_problem_has(value, reason):
    with pytest.raises(Invalid, match=reason):
        refuse(Fraction(value))


def test_the_truth_is_the_solution_executed_again():
    one = read("clips", PACKS["question"], PACKS["equation"], evaluate, PACKS["answer"])
    assert (one.answer, [slot.value for slot in one.slots]) == (51, [76, 25])
    assert solve(one, one.slots[0], Fraction(100), evaluate) == 75
    assert solve(one, one.slots[1], Fraction(26), evaluate) == 50
    for x, reason in ((10, "negative"), (2000, "absurd"), (Fraction(151, 2), "fractional"), (0, "absurd")):
        with pytest.raises(Invalid, match=reason):
            solve(one, one.slots[0], Fraction(x), evaluate)


def test_results_of_earlier_steps_follow_the_number():
    text = "Each of 8 teams has 15 players, and 7 are ill. How many can play?"
    one = read("teams", text, "All: <<8*15=120>>120.\nFit: <<120-7=113>>113.\n#### 113", evaluate)
    slot = next(slot for slot in one.slots if slot.value == 15)
    assert slot.program == (("8", "*", "x"), (0, "-", "7"))
    assert solve(one, slot, Fraction(20), evaluate) == 153
    assert one.with_number(slot, "X2") == text.replace("15", "X2")


@pytest.mark.parametrize(
    ("question", "solution", "slots", "why"),
    [
        (CLIPS["question"], CLIPS["answer"], [], "the solution uses the number not exactly once"),
        ("Ann has 13 pens and Bob has 13. How many?", "<<13+13=26>>26\n#### 26", [], "its numbers stand there twice"),
        ("A dozen boxes hold 12 eggs each. How many?", "<<12*12=144>>144\n#### 144", [], "a word may stand for the number"),
        ("Bob has nine caps and 14 pens. How many red?", "<<14+17=31>>31\n#### 31", [], "the solution uses a number from nowhere"),
        ("Ann has 23 pens, gets 40, gives 17. How many?", "<<40-17=23>>23\n<<23+23=46>>46\n#### 46", [], "a result equals another number"),
        (
            "Of 20 pens 13 are red. Are 33 enough?",
            "<<20+13=33>>33\n<<33-33=0>>0\n#### 0",
            [],
            "the solution uses the number not exactly once",
        ),
        ("At 9:45 he had 50% of 31 cups and 6.5 pies. How many cups?", "<<31*50%=15.5>>15.5\n#### 15.5", [31], ""),
        ("How many legs do 8 cats have?", "32", [], "the solution is a mere number"),
    ],
)
def test_a_number_whose_way_is_not_sure_is_left_alone(question, solution, slots, why):
    one = read("one", question, solution, evaluate)
    assert [slot.value for slot in one.slots] == slots
    assert one.why == why


def test_solutions_that_contradict_their_answer_are_left_out_and_counted():
    rows = [{"question": "What is 3 plus 4?", "solution": "3+4", "answer": 8}, {"question": "Is it?", "solution": "(3+"}, *apples(2)]
    found = read_problems(rows, evaluate)
    assert len(found.problems) == 2
    assert found.left_out == Counter({"the steps do not lead to the answer": 1, "no value": 1})
    bad = read_problems([{"question": "No solution?"}, *apples(1)], evaluate, bad_rows="skip")
    assert bad.left_out == Counter({"unreadable row": 1})
    with pytest.raises(UserError, match=r"row 1.*neither solution nor answer"):
        read_problems([{"question": "No solution?"}], evaluate)


def test_no_expression_reaches_python():
    with pytest.raises(Invalid):
        read("evil", "Who has 5 pens?", "__import__('os').getcwd()", evaluate)
    with pytest.raises(Invalid):
        read("evil", "Who has 5 pens?", "5**99999", evaluate)


def test_a_chain_says_what_it_computes():
    found = compose(problems(apples(12)), 4, 20, executor=evaluate, seed=1)
    assert len({one.prompt for one in found.chains}) == 20
    for one in found.chains:
        y = None
        for j, (place, x, answer) in enumerate(zip(one.places, one.inputs, one.answers)):
            assert place.adapter is None if j == 0 else place.adapter.apply(Fraction(y)) == x
            other = sum(int(value) for value in re.findall(r"[0-9]+", place.problem.question)) - place.slot.value
            y = x + other
            assert answer == y
        assert str(one.inputs[0]) in one.prompt.split("Problem 2")[0]
        assert all(f"Let X{j} be" in one.prompt and f"Call the answer A{j - 1}." in one.prompt for j in (2, 3, 4))
        assert one.prompt.count("A4") == 0
        row = one.row()
        assert (row["answer"], row["horizon"], len(set(row["problems"]))) == (str(y), 4, 4)
        assert one.answers[-1] not in (*one.answers[:-1], *one.inputs), "an answer on the way is never the last one"
    again = compose(problems(apples(12)), 4, 20, executor=evaluate, seed=1)
    assert [one.row() for one in again.chains] == [one.row() for one in found.chains]


def test_rejections_are_counted_by_reason():
    rows = [*apples(4), {"question": "Ann had 90 nuts and ate 77. What is left?", "solution": "90 - 77"}]
    rows += [{"question": f"{name} cut 96 cakes for 8 guests. How many each?", "solution": "96 / 8"} for name in ("Ann", "Bob")]
    found = compose(problems(rows), 3, 30, executor=evaluate, adapters=("identity", "times 3", "minus 30", "plus 2000"))
    assert {"negative", "fractional", "absurd"} <= set(found.rejected)
    tight = compose(problems(rows), 2, 5, executor=evaluate, adapters=("identity",), bound=110)
    assert tight.rejected["too large"] > 0
    assert max(max(one.answers) for one in tight.chains) <= 110


def test_shortcuts_are_rejected():
    rows = [*apples(3), {"question": "Ann buys 11 pens for 0 euros each. What does she pay beside 30 euros?", "solution": "11 * 0 + 30"}]
    free = problems(rows)[3]
    assert [slot.value for slot in free.slots] == [11, 30]
    found = compose(problems(rows), 2, 12, executor=evaluate, adapters=("identity", "plus 5"))
    assert found.rejected["shortcut"] > 0
    ignoring = [one for one in found.chains if one.places[1].problem.id == free.id and one.places[1].slot.value == 11]
    assert not ignoring


def test_numeric_answers_are_linked_by_addition():
    rows = [{"question": f"How many legs do {n} cats have?", "answer": 4 * n} for n in (3, 5, 7)]
    with pytest.raises(UserError, match=r"mere number.*'add'"):
        compose(problems(rows), 2, executor=evaluate)
    found = compose(problems([{"question": f"Number {word}?", "answer": k} for k, word in ((3, "a"), (8, "b"), (15, "c"))]), 3, 3,
                    executor=evaluate, link="add", adapters=("times 2",))  # fmt: skip
    for one in found.chains:
        golds = [int(place.problem.answer) for place in one.places]
        assert one.answers == (golds[0], golds[1] + 2 * golds[0], golds[2] + 2 * (golds[1] + 2 * golds[0]))
        assert "add A1 times 2 to it" in one.prompt


def test_train_and_test_share_no_problem(tmp_path):
    rows = apples(30) + apples(30, first=14)  # the same texts with other numbers
    train, test = split(problems(rows), 0.4, seed=2)
    assert train
    assert test
    assert not {one.key for one in train} & {one.key for one in test}
    report = make([rows], tmp_path / "out", made.Settings(h="1..3", n=10, test_n=5, test_share=0.4, adapters=("identity", "plus 5")))
    found = {
        name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()] for name in ("train", "test")
    }
    used = {name: {problem for row in side for problem in row["problems"]} for name, side in found.items()}
    assert not used["train"] & used["test"]
    assert Counter(row["horizon"] for row in found["train"]) == {1: 10, 2: 10, 3: 10}
    assert report["chains"]["test"]["made"] == {"1": 5, "2": 5, "3": 5}
    assert json.loads((tmp_path / "out" / "report.json").read_text())["problems"]["kept"] == 60


def test_the_command(tmp_path, capsys):
    data = tmp_path / "apples.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in apples(20)))
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    command.add_arguments(parser)
    words = [str(data), "--output", str(tmp_path / "out"), "--h", "1..2", "--n", "6", "--test-n", "3", "--adapters", "identity", "times 2"]
    command.run(parser.parse_args([*words, "--json"]))
    assert json.loads(capsys.readouterr().out)["problems"]["linkable"] == 20
    command.run(parser.parse_args(words))
    assert "train: 12 chains" in capsys.readouterr().out
    for change, message in (
        (["--h", "2..1"], "--h"),
        (["--h", "40"], "can be linked"),
        (["--adapters", "twice"], "adapter"),
        (["--executor", "burnish.tasks.expressions:evaluat"], "evaluat"),
        (["--test-share", "0"], "test-share"),
        (["--test-share", "1"], r"\[0, 1\)"),
    ):
        with pytest.raises(UserError, match=message):
            command.run(parser.parse_args([*words, *change]))


@pytest.mark.skipif(not os.environ.get("BURNISH_DATA"), reason="BURNISH_DATA is not set")
@pytest.mark.parametrize(("name", "rows", "linkable"), [("gsm8k_train.jsonl.gz", 7473, 3000), ("svamp.json", 1000, 900)])
def test_real_problems(name, rows, linkable):
    found = read_problems(Path(os.environ["BURNISH_DATA"]) / "math" / name, evaluate)
    assert found.rows == rows == len(found.problems) + sum(found.left_out.values())
    assert sum(bool(one.slots) for one in found.problems) >= linkable
    for one in found.problems:  # the original number gives the original answer
        for slot in one.slots:
            assert solve(one, slot, slot.value, evaluate, bound=10**9) == one.answer
    for h in (1, 5, 8):
        chains = compose(found.problems, h, 40, executor=evaluate, seed=h)
        assert len(chains.chains) == 40
        assert set(chains.rejected) >= {"absurd", "negative"}
