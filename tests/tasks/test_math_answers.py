"""Maths answers: GSM8K's writing, math-verify's comparison, its clock, and the share of a graded reward."""

import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from burnish.runs.errors import UserError
from burnish.tasks import math as maths
from burnish.tasks.math import Math, boxed, gsm8k_gold, gsm8k_row, plain_number, strip_marks

needs_math = pytest.mark.skipif(not maths.installed(), reason="math-verify is not installed (extra: math)")


def test_gsm8k_gold_takes_the_last_hashes_and_drops_commas():
    assert gsm8k_gold("She has 2*600 = <<2*600=1200>>1200.\n#### 1,200") == "1200"
    assert gsm8k_gold("#### 1\nno, wait\n#### -7") == "-7"
    assert gsm8k_gold("#### $3.50 ") == "3.50"
    for text in ("no mark 12", "#### many", "####"):
        with pytest.raises(UserError, match="####"):
            gsm8k_gold(text)


def test_gsm8k_rows_lose_their_calculator_marks():
    row = gsm8k_row({"question": "Q?", "answer": "48/2 = <<48/2=24>>24 clips.\n#### 24", "level": 3})
    assert row == {"prompt": "Q?", "completion": "48/2 = 24 clips.\n#### 24", "answer": "24", "level": 3}
    with pytest.raises(UserError, match="'question'"):
        gsm8k_row({"prompt": "Q?", "answer": "#### 1"})
    assert strip_marks("a <<1+1=2>>2 << b") == "a 2 << b"


@pytest.mark.skipif(not os.environ.get("BURNISH_DATA"), reason="BURNISH_DATA is not set")
def test_every_gsm8k_row_has_a_gold():
    path = Path(os.environ["BURNISH_DATA"]) / "math" / "gsm8k_train.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [gsm8k_row(json.loads(line)) for line in lines]
    assert len(rows) == 7473
    assert all(plain_number(row["answer"]) is not None and "<<" not in row["completion"] for row in rows)


def test_plain_numbers_are_exact():
    assert plain_number("1,234,567") == 1234567
    assert plain_number("-$5.25.") == -21 / 4
    assert plain_number("9007199254740993") == 9007199254740993  # no float holds it
    assert [plain_number(text) for text in ("1,23", "1e5", "1/2", "", "12a", "9" * 80)] == [None] * 6
    assert boxed(r"so \boxed{1} or \boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert boxed(r"\boxed{1") is None


@needs_math
@pytest.mark.parametrize(
    ("completion", "gold", "success"),
    [
        ("so #### 1,200", "1200", 1),
        ("#### 12", "so 12\n#### 12", 1),  # the gold as a whole GSM8K solution
        ("#### 1000001", "1000000", 0),
        ("#### 12.00", "12", 1),
        ("#### 12 or 13", "12", 0),
        ("12 #### 13", "12", 0),
        ("the answer is 42.", "42", 1),
        (r"\boxed{\frac{1}{2}}", "0.5", 1),
        (r"\frac{1}{2}", "1/2", 1),
        (r"#### \sqrt{8}", r"2\sqrt{2}", 1),
        ("#### x^2+2x+1", "(x+1)^2", 1),
        (r"$\{1,2\}$", r"\{2,1\}", 1),
        (r"50\%", "1/2", 1),
        ("(1,2)", "(1,2)", 1),
        ("#### Evelyn", "3", 0),
        ("", "3", 0),
        ("7" * 3000, "7", 0),
        ("\x00\ud800", "3", 0),
    ],
)
def test_answers(completion, gold, success):
    score = Math().score(completion, {"answer": gold})
    assert (score.success, score.reward, score.invalid) == (success, success, False)


@needs_math
def test_an_endless_answer_is_killed_and_the_next_one_served_from_any_thread():
    task, found = Math(seconds=1.5), []

    def ask():
        found.append(task.score("$9^{9^{9^{9}}}$", {"answer": "3"}))
        found.append(task.score(r"\frac{6}{2}", {"answer": "3"}))

    thread = threading.Thread(target=ask)  # where an alarm would not be heard
    thread.start()
    thread.join(60)
    assert [score.success for score in found] == [0.0, 1.0]
    assert [score.parts["timeout"] for score in found] == [1.0, 0.0]


@needs_math
def test_the_graded_reward_adds_form_and_closeness():
    task = Math(form="hashes", format_weight=0.2, closeness_weight=0.3)
    rewards = [task.score(text, {"answer": "100"}).reward for text in ("#### 100", "#### 110", "#### 1000", "#### none", "100")]
    assert rewards == pytest.approx([1.0, 0.2 + 0.3 / 2, 0.2 + 0.3 / 91, 0.2, 0.0])
    assert task.score("#### 110", {"answer": "100"}).success == 0.0
    assert Math(form="boxed").score("#### 100", {"answer": "100"}).success == 0.0


@needs_math
def test_bad_settings_and_rows_are_named():
    with pytest.raises(UserError, match="format_weight"):
        Math(format_weight=2.0).validate()
    with pytest.raises(UserError, match="closeness_weight"):
        Math(format_weight=0.6, closeness_weight=0.6).validate()
    with pytest.raises(UserError, match="seconds"):
        Math(seconds=0).validate()
    with pytest.raises(UserError, match="column 'answer'"):
        Math().score("1", {"solution": "1"})
    assert Math().score("1", {"answer": ""}).invalid


def test_without_math_verify_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(maths, "installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'burnish\[math\]'"):
        Math().score("1", {"answer": "1"})
