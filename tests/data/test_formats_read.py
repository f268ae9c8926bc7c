"""Every format reads to the same rows; mappings, system prompts and messages."""

import gzip
import json

import datasets
import pytest

from burnish.data.config import DataConfig
from burnish.data.formats import detect, load_rows
from burnish.data.split import hold_out
from burnish.runs.config import load_config
from burnish.runs.errors import UserError

ROWS = [{"prompt": f"{i} + 1 =", "answer": str(i + 1), "extra": None if i else "x"} for i in range(4)]


def _jsonl(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_format_gives_the_same_rows(tmp_path):
    data = datasets.Dataset.from_list(ROWS)
    _jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "c.json").write_text(json.dumps(ROWS))
    (tmp_path / "lines.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    data.to_parquet(tmp_path / "d.parquet")
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(tmp_path / "dict")
    (tmp_path / "folder").mkdir()
    _jsonl(tmp_path / "folder" / "train-0.jsonl", ROWS)
    _jsonl(tmp_path / "folder" / "test-0.jsonl", ROWS[:1])
    for name in ("a.jsonl", "b.jsonl.gz", "c.json", "lines.json", "d.parquet", "saved", "dict"):
        rows = load_rows(tmp_path / name)
        assert list(rows) == ROWS, name
        assert (rows.format, rows.report.read, rows.report.kept, rows.report.skipped) == ("prompt", 4, 4, [])
    assert list(load_rows(data)) == list(load_rows(ROWS)) == list(load_rows(str(tmp_path / "folder"), split="train")) == ROWS
    assert len(load_rows(tmp_path / "dict", split="test")) == 1
    assert load_rows(tmp_path / "a.jsonl").where[2] == f"{tmp_path}/a.jsonl:3"
    with pytest.raises(UserError, match="no split 'tset'; did you mean 'test'"):
        load_rows(tmp_path / "dict", split="tset")
    with pytest.raises(UserError, match=r"holds 2 data files .*set split"):
        load_rows(tmp_path / "folder")


def test_csv_values_stay_text_and_quoted_newlines_count_as_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,answer\n"two\nlines",007\nplain,NA\n', encoding="utf-8")
    rows = load_rows(path)
    assert list(rows) == [{"prompt": "two\nlines", "answer": "007"}, {"prompt": "plain", "answer": "NA"}]
    assert rows.where == [f"{path}:2", f"{path}:4"]


def test_line_separators_inside_json_do_not_split_a_row(tmp_path):
    row = {"prompt": "a\u2028b\x85c\x0bd", "n": 1}
    rows = load_rows(_jsonl(tmp_path / "a.jsonl", [row, row]))
    assert list(rows) == [row, row]


def test_detect():
    assert detect(["prompt", "completion", "id"]) == "prompt_completion"
    assert detect(["prompt", "messages"]) == "messages"
    assert detect(["prompt", "answer"]) == "prompt"
    assert detect(["text"]) == "text"
    assert detect(["question"]) is None


def test_columns_map_by_name_and_by_template():
    data = [{"question": "1+1?", "answer": 2}]
    rows = load_rows(data, {"prompt": "Q: {question} {{}}\nA:", "completion": "{answer}"})
    assert rows.format == "prompt_completion"
    assert rows[0] == {"question": "1+1?", "answer": 2, "prompt": "Q: 1+1? {}\nA:", "completion": "2"}
    with pytest.raises(UserError, match=r"data: columns.prompt names 'qestion', which is not there; did you mean 'question'\?"):
        load_rows(data, {"prompt": "qestion"})
    with pytest.raises(UserError, match=r"columns.answer would hide the column 'answer'"):
        load_rows(data, {"prompt": "question", "answer": "question"})
    with pytest.raises(UserError, match=r"data:row 1: completion is a number \(2\); it must be text or a list of messages"):
        load_rows(data, {"prompt": "question", "completion": "answer"})


def test_system_and_as_messages():
    data = [
        {"prompt": "hi", "completion": "yo"},
        {"prompt": [{"role": "system", "content": "own"}, {"role": "user", "content": "x"}], "completion": "z"},
    ]
    rows = load_rows(data, system="be brief")
    assert rows[0]["prompt"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert rows[0]["completion"] == [{"role": "assistant", "content": "yo"}]
    assert rows[1]["prompt"][0]["content"] == "own"
    with pytest.raises(UserError, match="row 2: prompt and completion must both be text or both be messages"):
        load_rows(data)
    with pytest.raises(UserError, match="plain text"):
        load_rows([{"text": "x"}], system="s")


def test_arrow_fills_vanish_and_tool_calls_become_dictionaries(tmp_path):
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "2"}], "name": "add"},
    ]
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"x": None}}}]
    rows = load_rows([{"messages": messages, "tools": json.dumps(tools)}])
    datasets.Dataset.from_list([{"messages": messages[:1]}, {"messages": [{"role": "user", "content": "q", "name": "n"}]}]).to_parquet(
        tmp_path / "m.parquet"
    )
    assert rows[0]["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
    }
    assert rows[0]["messages"][2] == {"role": "tool", "content": "2", "name": "add"}
    assert rows[0]["tools"] == [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    assert load_rows(tmp_path / "m.parquet")[0]["messages"] == [{"role": "user", "content": "1+1"}]


def test_hold_out_is_disjoint_complete_and_seeded():
    rows = load_rows([{"prompt": str(i)} for i in range(20)])
    train, held = hold_out(rows, 5, seed=3)
    assert sorted([*train.number, *held.number]) == list(range(20))
    assert len(held) == 5
    assert held.number == hold_out(rows, 5, seed=3)[1].number != hold_out(rows, 5, seed=4)[1].number
    with pytest.raises(UserError, match="cannot hold out 20 of 20"):
        hold_out(rows, 20)


def test_the_config_reads_like_the_function(tmp_path):
    path = _jsonl(tmp_path / "a.jsonl", [{"q": "1", "a": 2}] * 3)
    config = load_config(DataConfig, None, ["--path", str(path), "--columns.prompt", "Q {q}", "--limit", "2"])
    assert list(config.load()) == [{"q": "1", "a": 2, "prompt": "Q 1"}] * 2


def test_a_function_of_the_users_own_changes_every_raw_row(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in [("1+1", "2 <<1+1=2>>\n#### 2"), ("2+2", "four")]))
    rows = load_rows(file, {"prompt": "{prompt}\n"}, map="burnish.tasks.math:gsm8k_row", bad_rows="skip")
    assert rows.format == "prompt_completion"  # the mapping changes the prompt alone
    assert rows.rows == [{"prompt": "1+1\n", "completion": "2 \n#### 2", "answer": "2"}]
    assert [one.where for one in rows.report.skipped] == [f"{file}:2"]
    with pytest.raises(UserError, match=r"rows.jsonl:2: no number follows '####'"):
        load_rows(file, map="burnish.tasks.math:gsm8k_row")
    with pytest.raises(UserError, match=r"rows.jsonl:1: map .* broke: KeyError: 'text'"):
        load_rows(file, map=lambda row: {"text": row["text"]})
    with pytest.raises(UserError, match=r"rows.jsonl:1: map .* returned"):
        load_rows(file, map=lambda row: None)
