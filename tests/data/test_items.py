"""Rows become items: ids for text, messages untouched, columns kept, long prompts refused or counted."""

import pytest

from burnish.data.examples import to_examples
from burnish.data.formats import load_rows
from burnish.data.items import to_items
from burnish.records import Limits
from burnish.runs.errors import UserError


def ask(text):
    return {"role": "user", "content": text}


def test_text_and_messages_and_columns(make_policy):
    policy = make_policy("chatml")
    rows = load_rows([{"prompt": "ab", "answer": 1}, {"prompt": [ask("q")], "answer": 2}])
    first, second = to_items(rows, policy, 4, Limits(max_new_tokens=9))
    assert (first.id, first.prompt, first.columns, first.group_size, first.limits.max_new_tokens) == (
        "row-0",
        [97, 98],
        {"answer": 1},
        4,
        9,
    )
    assert second.prompt == [ask("q")]
    assert second.is_chat


def test_ids_come_from_the_column_or_the_place_in_the_source(make_policy):
    policy = make_policy()
    assert [item.id for item in to_items(load_rows([{"prompt": "a", "id": 7}, {"prompt": "b", "id": "x"}]), policy)] == ["7", "x"]
    rows = load_rows([{"prompt": ""}, {"prompt": "b"}], bad_rows="skip")
    assert [item.id for item in to_items(rows, policy)] == ["row-1"]
    with pytest.raises(UserError, match="data:row 2: the id '7' belongs to an earlier row with another prompt"):
        to_items(load_rows([{"prompt": "a", "id": 7}, {"prompt": "b", "id": 7}]), policy)


def test_long_prompts_are_refused_or_counted(make_policy):
    policy = make_policy("thinking", max_length=60)
    rows = load_rows([{"prompt": "x" * 59}, {"prompt": "x" * 60}, {"prompt": [ask("y")], "tools": [{"name": "z" * 60}]}])
    with pytest.raises(UserError, match=r"data:row 2: the prompt has 60 tokens and at most 59 fit \(the model's context is 60"):
        to_items(rows, policy)
    items = to_items(rows, policy, too_long="skip")
    assert [one.where for one in items.report.skipped] == ["data:row 2", "data:row 3"]
    assert (items.report.read, items.report.kept) == (3, 1)
    with pytest.raises(UserError, match=r"row 1: .*at most 58 fit \(max_prompt_tokens\)"):
        to_items(rows, policy, max_prompt_tokens=58)


def test_data_without_prompts_is_refused(make_policy):
    with pytest.raises(UserError, match="there is no column 'prompt'; columns there: text"):
        to_items(load_rows([{"text": "x"}]), make_policy())
    with pytest.raises(UserError, match=r"was read as 'messages'; read it with format='prompt'"):
        to_items(load_rows([{"messages": [ask("q")], "prompt": 3}]), make_policy())
    with pytest.raises(UserError, match=r"data:row 1: .*template"):
        to_items(load_rows([{"prompt": [ask("q")]}]), make_policy())


def test_a_model_without_a_limit_takes_any_length(make_policy):
    rows = load_rows([{"prompt": "x" * 5000, "completion": "y"}])
    assert len(to_items(rows, make_policy(max_length=None))[0].prompt) == 5000
    assert len(to_examples(rows, make_policy(max_length=None))[0].ids) == 5002
