"""report.html: self-contained, inert whatever the model wrote, and there for broken runs too."""

import base64
import hashlib
import html.parser
import json
import re

import pytest
from report_run_folders import EVIL, group_record, metric_rows, write_rollouts, write_run, write_tokenizer

from burnish.reports.report import write_report
from burnish.reports.run_files import read_run
from burnish.reports.summary import Arm, Check, Summary
from burnish.runs.errors import UserError


class Page(html.parser.HTMLParser):
    """Elements with their attributes, and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.raw = [], [], {"script": "", "style": ""}
        self.inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag if tag in self.raw else self.inside

    def handle_endtag(self, tag):
        self.inside = None if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside:
            self.raw[self.inside] += data
        else:
            self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)

    def of_class(self, name):
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def page_of(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def assert_inert(page):
    """One script, ours, allowed by its hash; no handler, no address but fragments of the page itself."""
    assert [tag for tag, _ in page.elements].count("script") == 1
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.raw["script"].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"@import|url\(", page.raw["style"])
    for tag, attrs in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith("#")
            if not name.startswith("xmlns"):
                assert not re.search(r"https?:|url\((?!#)", value or "")


def test_a_finished_run_has_every_section(rl_run):
    arms = (Arm("base", 0.05, 0.03, 0.08, 1000), Arm("SFT", 0.21, 0.18, 0.25, 1000, seconds=40.0, flops=3e12))
    Summary(arms=arms, checks=(Check("RL beats SFT", False, "+0.30", "+0.10"),), title="Quickstart").write(rl_run)
    page = page_of(rl_run)
    assert_inert(page)
    assert "What is missing or damaged" not in page.text
    for words in (
        "0.719",
        "[0.689, 0.749]",
        "40 of 40",
        "0.210 [0.180, 0.250]",
        "✗ failed",
        "burnish train --config 'my config.yaml'",
        "2.13.0",
    ):
        assert words in page.text, words
    assert re.search(r"the rest\s*4\.0 %", page.text)
    assert "grad_norm" in page.text
    assert "pass@1" in page.text
    assert "group_size: 4" in page.text
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    labels = [attrs["aria-label"] for tag, attrs in page.elements if tag == "figure"]
    assert len(labels) == sum(tag == "svg" for tag, _ in page.elements)
    assert {label.split(" over")[0] for label in labels} >= {
        "Reward",
        "Success",
        "Loss",
        "Entropy",
        "Completion length",
        "Uniform groups",
        "KL to the reference",
    }


def test_the_success_plot_has_the_baselines(rl_run):
    Summary(arms=(Arm("SFT", 0.21),)).write(rl_run)
    text = write_report(rl_run).read_text()
    figure = next(part for part in text.split("<figure") if 'aria-label="Success' in part)
    for label in (">in training<", ">held-out<", ">base<", ">sft<"):
        assert label in figure


def test_what_a_model_writes_is_text(rl_run):
    text = write_report(rl_run).read_text()
    assert EVIL not in text
    page = Page(text)
    assert_inert(page)
    assert EVIL in page.text  # the prompt, whole
    shown = "".join(re.findall(r'<div class="text">(.*?)</div>', text, flags=re.DOTALL))
    assert "&lt;" in shown
    assert "<script" not in shown


@pytest.mark.parametrize(
    "evil", [EVIL, '"><script>alert(1)</script>', "</pre></style></title><script>alert(1)</script>", "' onmouseover='alert(1)"]
)
def test_nothing_a_run_says_becomes_markup(tmp_path, evil):
    config = {"stage": "rl", "seed": evil, "rl": {"steps": 2, "objective": evil}, "eval": {"baselines": {evil: evil}}, evil: evil}
    rows = [{**row, evil: 1.0, f"time/{evil}": 0.1} for row in metric_rows(2, every=1)]
    run = write_run(tmp_path / "run", config, rows)
    info = {"starts": [{"command": [evil], "time": evil, evil: evil, "versions": {evil: evil}}]}
    (run / "run.json").write_text(json.dumps(info))
    (run / "summary.json").write_text(json.dumps({"title": evil, "arms": [{"name": evil, "success": 0.5, "note": evil}], "notes": [evil]}))
    record = group_record(write_tokenizer(tmp_path / "elsewhere"), evil, evil, [(evil, 1.0), (evil, 0.0)])
    record["item"]["columns"] = {evil: evil}
    record["rollouts"][0] |= {"stop": evil}
    record["rollouts"][1]["turns"][0] |= {"agent": evil}
    record["scores"][0] |= {"parts": {evil: 1.0, "b": 2.0}}
    write_rollouts(run, 1, [record])
    (run / "evals").mkdir()
    (run / "evals" / "a.json").write_text(json.dumps({"success": 0.5, evil: evil}))
    assert_inert(page_of(run))


def test_the_name_of_a_baseline_in_the_plot_is_text(tmp_path):
    config = {"stage": "rl", "rl": {"steps": 2}, "eval": {"baselines": {"<b>x": "y"}}}
    run = write_run(tmp_path / "run", config, metric_rows(2, every=1))
    (run / "evals").mkdir()
    (run / "evals" / "<b>x.json").write_text('{"success": 0.1}')
    page = page_of(run)
    assert "<b>x" in page.text
    assert not any(tag == "b" for tag, _ in page.elements)


def test_completions_are_coloured_and_marked(rl_run):
    page = page_of(rl_run)
    for step in (1, 20, 40):
        assert any(attrs.get("data-step") == str(step) for _, attrs in page.elements)
    assert len(page.of_class("r10")) == 3  # the one right answer of each step
    assert len(page.of_class("r0")) == 9
    assert len(page.of_class("r3")) == 12  # 0.25 of the way
    assert len(page.of_class("injected")) == 3 * 4 * 3 + 1  # "[7]" byte by byte, and the legend
    assert len(page.of_class("special")) >= 3 * 8
    assert page.text.count("uniform: all rewards equal") == 3
    assert "length · wrong" in page.text


def test_tokens_that_a_column_marks_are_coloured(tmp_path):
    run, tokenizer = write_run(tmp_path / "run", {"stage": "rl"}, metric_rows(1)), write_tokenizer(tmp_path / "run" / "t")
    record = group_record(tokenizer, "a", "q", [("think twice", 1.0), ("no", 0.0)], tool="[7]")
    turn = record["rollouts"][0]["turns"][0]
    first = turn["injected"].index(False)
    column = [int(place == first) for place, forced in enumerate(turn["injected"]) if not forced]
    assert sum(column) == 1
    record["scores"][0]["extras"] = {"planning": column, "other": [0.5] * len(column), "short": [1]}
    write_rollouts(run, 1, [record])
    page = page_of(run)
    assert len(page.of_class("mark")) == 1 + 1  # the token, and the legend
    assert "planning" in page.text


def test_an_invalid_completion_has_no_colour(tmp_path):
    run = write_run(tmp_path / "run", {"stage": "rl"}, metric_rows(1))
    record = group_record(write_tokenizer(tmp_path / "t"), "a", "q", [("x", 1.0), ("y", 0.0)])
    record["scores"][1]["invalid"] = True
    write_rollouts(run, 1, [record])
    page = page_of(run)
    assert len(page.of_class("none")) == 1
    assert "invalid" in page.text
    assert "uniform" not in "".join(page.words[page.words.index("a") :])
    assert "no tokenizer in the run folder" in page.text


def test_an_sft_run(sft_run):
    page = page_of(sft_run)
    assert_inert(page)
    assert "What is missing" not in page.text
    assert "Held-out loss" in page.text
    assert "Sample completions" not in page.text
    labels = [attrs["aria-label"].split(" over")[0] for tag, attrs in page.elements if tag == "figure"]
    assert labels == ["Loss", "Learning rate"]


def test_an_unfinished_run_says_so(rl_run):
    (rl_run / "checkpoint-40" / "state.json").unlink()
    lines = (rl_run / "metrics.jsonl").read_text().splitlines()
    (rl_run / "metrics.jsonl").write_text("\n".join([*lines[:12], "[1]", lines[12][:40]]))
    page = page_of(rl_run)
    assert_inert(page)
    assert "unfinished: 11 of 40 steps are done" in page.text
    assert "metrics.jsonl, line 13: not a JSON object" in page.text
    assert "line 14: not a JSON object (torn" in page.text
    assert "checkpoint-40/state.json is missing" in page.text


def test_a_damaged_run_still_gets_its_report(rl_run):
    (rl_run / "config.yaml").write_text("stage: [rl\n")
    (rl_run / "run.json").write_text("{")
    (rl_run / "summary.json").write_text('{"arms": [3, {"name": "a", "success": "x"}], "checks": 7, "notes": 5}')
    (rl_run / "evals" / "base.json").write_text("nope")
    (rl_run / "checkpoint-40" / "tokenizer.json").write_text("{}")
    file = rl_run / "rollouts" / "step-000040.jsonl"
    file.write_text('{"item": {}, "rollouts": [{}]}\n{"item"\n' + file.read_text())
    rows = [{"step": 1, "reward": "NaN", "loss": None}, {"step": 2, "reward": 0.5, "loss": True, "time/step": -1}]
    (rl_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\xff\n")
    page = page_of(rl_run)
    assert_inert(page)
    for words in (
        "config.yaml, line",
        "run.json cannot be read",
        "base.json cannot be read",
        "tokenizer.json cannot be read",
        "a group lacks what it should have",
        "step-000040.jsonl, line 2: not a JSON object",
        "not finite somewhere (left out of plots and means): reward",
        "does not say which command",
    ):
        assert words in page.text, words


def test_an_empty_folder_is_refused_and_an_almost_empty_one_is_not(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run folder"):
        write_report(tmp_path)
    (tmp_path / "config.yaml").write_text("stage: rl\n")
    page = page_of(tmp_path)
    assert_inert(page)
    assert "the run did not finish a step" in page.text


def test_the_report_is_the_same_twice_and_changes_nothing_else(rl_run):
    before = {file: file.read_bytes() for file in rl_run.rglob("*") if file.is_file()}
    first = write_report(rl_run).read_bytes()
    assert write_report(rl_run).read_bytes() == first
    after = {file: file.read_bytes() for file in rl_run.rglob("*") if file.is_file() and file.name != "report.html"}
    assert after == before


def test_a_long_run_is_drawn_in_windows_and_stays_small(tmp_path):
    run = write_run(tmp_path / "long", {"stage": "rl", "rl": {"steps": 3000}}, metric_rows(3000, every=100))
    tokenizer = write_tokenizer(run / "checkpoint-3000")
    (run / "checkpoint-3000" / "state.json").write_text('{"total_steps": 3000}')
    record = group_record(tokenizer, "a", "q", [("long answer " * 100, float(n % 2)) for n in range(12)])
    for step in range(1, 60, 3):
        write_rollouts(run, step, [record] * 6)
    path = write_report(run)
    page = Page(path.read_text())
    assert "mean, lowest and highest of every 50 steps" in page.text
    assert sum(attrs.get("class") == "step" for _, attrs in page.elements) == 16
    assert "and 4 more completions" in page.text
    assert "and 2 more groups" in page.text
    assert path.stat().st_size < 6e6


def test_reading_a_run_notes_what_it_needs(rl_run):
    run = read_run(rl_run)
    assert (run.stage, run.steps, run.total_steps, run.problems) == ("rl", 40, 40, [])
    assert run.series("eval/success")[0] == [0, 10, 20, 30, 40]
    assert run.setting("rl.group_size") == 4
    assert run.setting("rl.nothing", 7) == 7
