"""Bad data: one clear line with file, line and field; or skipped, counted and reported."""

import gzip
import json

import pytest

from burnish.data.formats import load_rows
from burnish.runs.errors import UserError

GOOD = b'{"prompt": "a"}\n'

BAD_LINES = [
    (b'{"prompt": "a"\n', r":2: broken JSON: Expecting ',' delimiter at column"),
    (b'{"prompt": "caf\xe9"}\n', r":2: not UTF-8: byte 0xe9 at byte 31 of the file"),
    (b'{"prompt": "a", "x": NaN}\n', r":2: broken JSON: NaN is not JSON"),
    (b'{"prompt": "a", "prompt": "b"}\n', r":2: broken JSON: the key 'prompt' stands twice"),
    (b"[" * 100_000 + b"\n", r":2: broken JSON"),
    (b"[1]\n", r":2: the row is a list, not an object"),
    (b'{"promt": "a"}\n', r":2: the row has no column 'prompt' \(columns there: promt\)"),
    (b'{"prompt": 7}\n', r":2: prompt is a number \(7\); it must be text or a list of messages"),
    (b'{"prompt": null}\n', r":2: prompt is missing"),
    (b'{"prompt": " \\n"}\n', r":2: prompt is empty"),
    (b'{"prompt": []}\n', r":2: prompt is empty"),
    (b'{"prompt": "\\ud800"}\n', r":2: prompt holds half a surrogate pair"),
    (b'{"prompt": [{"role": "usr", "content": "a"}]}\n', r":2: prompt\[0\].role is 'usr'; did you mean 'user'"),
    (b'{"prompt": [{"role": "user", "content": 3}]}\n', r":2: prompt\[0\].content is a number"),
    (b'{"prompt": [{"from": "human", "value": "a"}]}\n', r":2: prompt\[0\].role is missing.*keys there: from, value"),
    (b'{"prompt": "a", "tools": "nope"}\n', r":2: tools is text that is not JSON"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES, ids=[message[4:24] for _, message in BAD_LINES])
def test_a_bad_line_is_refused_by_name_or_skipped_and_reported(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(UserError, match=message) as caught:
        load_rows(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)
    assert "bad_rows" in str(caught.value)
    rows = load_rows(path, bad_rows="skip")
    assert (rows.report.read, rows.report.kept) == (3, 2)
    assert [one.where for one in rows.report.skipped] == [f"{path}:2"]
    assert rows.where == [f"{path}:1", f"{path}:4"]  # line 3 is blank
    assert rows.number == [0, 2]
    assert json.dumps(rows.report.to_dict())
    assert "2 of 3 rows kept, 1 skipped" in rows.report.summary()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b"", "the file is empty"),
        ("a.jsonl", b"\n \n", "no rows, only blank lines"),
        ("a.jsonl", "{}".encode("utf-16"), ":1: the file is UTF-16, not UTF-8; convert it"),
        ("a.jsonl", b'{"question": "x"}\n', "no column 'prompt'.*columns there: question; set columns.prompt to one of them"),
        ("a.jsonl", b'{"promt": "x", "b": 1}\n', r"set columns.prompt to one of them \(nearest: 'promt'\)"),
        ("a.jsonl", b"nonsense\n", ":1: broken JSON"),
        ("a.json", b'[{"prompt": "a"},\n {"prompt" "b"}]', ":2: broken JSON: Expecting ':' delimiter at column"),
        ("a.json", b"[]", "the list is empty"),
        ("a.json", b'["\xff"]', ":1: not UTF-8: byte 0xff at byte 2"),
        ("a.csv", b"prompt,prompt\n1,2\n", ":1: the header row must name every column once"),
        ("a.csv", b"prompt,b\n", "header but no rows"),
        ("a.csv", b'prompt,b\nx,y\n"open,1\n', ":3: broken CSV"),
        ("a.csv", b"prompt,b\nx,y\nx\n", ":3: 1 fields where the header names 2 columns"),
        ("a.csv", b"prompt,b\nx,\xe9\n", ":2: not UTF-8: byte 0xe9"),
        ("a.parquet", b"PAR1 nothing", "not a readable Parquet file"),
        ("a.arrow", b"nothing", "not a readable Arrow file"),
        ("a.txt", b"x", "unknown kind of file; wanted one of .jsonl"),
        ("a.jsonl.gz", gzip.compress(GOOD * 99, mtime=0)[:-9], "the gzip archive is broken"),
        ("a.jsonl.gz", GOOD, "the gzip archive is broken"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_rows(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(UserError, match=r"trian.jsonl: no such file; did you mean 'train.jsonl'\?"):
        load_rows(tmp_path / "trian.jsonl")
    with pytest.raises(UserError, match=r"the folder .* does not exist"):
        load_rows(str(tmp_path / "nowhere" / "x.jsonl"))


def test_skipping_everything_is_an_error(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"prompt": ""}\n' * 3)
    with pytest.raises(UserError, match="no row is left of 3; most often: prompt is empty"):
        load_rows(tmp_path / "a.jsonl", bad_rows="skip")
    with pytest.raises(UserError, match="bad_rows is 'ignore'"):
        load_rows(tmp_path / "a.jsonl", bad_rows="ignore")
