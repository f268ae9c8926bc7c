"""Tables, terminal summary, timings and the small words numbers become."""

import io
import math

import pytest
from report_run_folders import metric_rows, write_run, write_tokenizer
from rich.console import Console

from burnish.reports import tables, terminal, words
from burnish.reports.curves import for_page, windows
from burnish.reports.headlines import tenth
from burnish.reports.run_files import read_run
from burnish.reports.samples import spread
from burnish.reports.summary import Arm, Check, Summary
from burnish.reports.timings import timings
from burnish.reports.tokens import FileDecoder, grade, marked, token_view
from burnish.runs.stats import Interval

ROWS = [
    {"model": "base", "success": Interval(0.05, 0.03, 0.08), "seconds": 0.5, "FLOPs": 3e12},
    {"model": "a|b\n<i>", "success": {"mean": 0.5, "low": math.nan, "high": math.nan}, "seconds": None, "extra": True},
]


def test_markdown_table():
    assert tables.markdown(ROWS).splitlines() == [
        "| model       |              success | seconds |    FLOPs | extra |",
        "| ----------- | -------------------: | ------: | -------: | ----- |",
        "| base        | 0.050 [0.030, 0.080] |  500 ms | 3.00e+12 | –     |",
        "| a\\|b &lt;i> |                0.500 |       – |        – | yes   |",
    ]
    assert tables.markdown([]) == ""
    assert tables.markdown(ROWS, columns=["model"]).count("|") == 9  # one of them inside a name


def test_rich_table_shows_markup_as_text():
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=True, color_system=None).print(
        tables.rich_table([{"model": "[red]x[/red]\x1b[31m", "n": 3}], title="[b]t")
    )
    assert "[red]x[/red]" in out.getvalue()
    assert "[b]t" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def test_a_piped_table_is_markdown_and_never_cut():
    out = io.StringIO()
    tables.show([{"model": "m" * 300, "n": 1}], title="T", file=out)
    assert out.getvalue().startswith("T\n\n| model")
    assert "m" * 300 in out.getvalue()


def test_arms_leave_out_what_nobody_has():
    rows = tables.arm_rows([Arm("a", 0.5, 0.4, 0.6, n=10), Arm("b", None, n=20)])
    assert list(rows[0]) == ["model", "success [95 %]", "n"]
    assert tables.cell("", rows[1]["success [95 %]"]) == "–"


def test_summary_survives_a_round_trip_and_reads_maps(tmp_path):
    found = Summary(
        arms=(Arm("a", 0.5, 0.4, 0.6, 10, 1.5, 2e9, "x"),), checks=(Check("c", True, "1", "2"),), title="t", notes=("n",), seconds=3.0
    )
    found.write(tmp_path)
    (tmp_path / "config.yaml").write_text("stage: rl\n")
    assert Summary.from_dict(read_run(tmp_path).summary) == found
    other = Summary.from_dict({"arms": {"a": {"success": Interval(0.5, 0.4, 0.6, 10).to_dict()}}})
    assert other.arms == (Arm("a", 0.5, 0.4, 0.6, 10),)
    assert not Summary.from_dict({})


def test_timings_add_up(rl_run):
    found = timings(read_run(rl_run))
    shares = {part.name: part.share for part in found.parts}
    assert list(shares) == ["generate", "score", "measure", "forward", "backward", "optimizer", "record", "rest"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["rest"] == pytest.approx(0.04)
    assert (found.steps, found.total) == (40, pytest.approx(40))
    assert [(part.name, part.seconds) for part in found.outside] == [("eval", pytest.approx(5))]


def test_overlapping_timers_show_as_a_negative_rest(tmp_path):
    run = write_run(tmp_path / "r", {"stage": "rl"}, [{"step": 1, "time/step": 1.0, "time/generate": 0.9, "time/mine": 0.3}])
    found = timings(read_run(run))
    assert [part.name for part in found.parts] == ["generate", "mine", "rest"]
    assert found.parts[-1].share == pytest.approx(-0.2)
    assert timings(read_run(write_run(tmp_path / "none", {}, [{"step": 1}]))) is None


def test_terminal_summary(rl_run, capsys):
    (rl_run / "evals" / "broken.json").write_text("{")
    Summary(arms=(Arm("base", 0.05, 0.03, 0.08),), checks=(Check("RL beats SFT", False),)).write(rl_run)
    terminal.summary(rl_run)
    out = capsys.readouterr().out
    assert "0.719 [0.689, 0.749]" in out
    assert "0.050 [0.030, 0.080]" in out
    assert "FAILED" in out
    assert "generation 50.0 %" in out
    assert "Note: broken.json cannot be read" in out


def test_terminal_summary_of_a_run_without_numbers(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("stage: sft\n")
    terminal.summary(tmp_path)
    assert "no numbers yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (12345.0, "12,345"),
        (0.12345, "0.123"),
        (1e-5, "1.00e-05"),
        (3e9, "3.00e+09"),
        (123.456, "123.5"),
        (None, "–"),
        (math.nan, "nan"),
    ],
)
def test_number(value, text):
    assert words.number(value) == text


def test_seconds_and_megabytes():
    assert [words.seconds(v) for v in (0, 0.25, 12.34, 125, 7800, None)] == ["0 s", "250 ms", "12.3 s", "2 min 05 s", "2 h 10 min", "–"]
    assert [words.megabytes(v) for v in (100, 2048)] == ["100 MB", "2.00 GB"]


def test_safe_text_shows_what_hides():
    assert words.safe("a\x00\x1b\u202eb\ud800\n\t\x7f\x85") == "a␀␛⟨U+202E⟩b?\n\t␡⟨U+0085⟩"


def test_windows_and_spread():
    assert windows([1, 2, 3, 4, 5], [1.0, 3.0, 5.0, 7.0, 9.0], 2) == ([2, 4, 5], [2.0, 6.0, 9.0], [1.0, 5.0, 9.0], [3.0, 7.0, 9.0])
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(list(range(100)), 3) == [0, 50, 99]
    assert (tenth(list(range(20)), end=False), tenth(list(range(20)), end=True), tenth([4.0], end=True)) == (0.5, 18.5, 4.0)


def test_a_plot_takes_the_colours_of_the_page():
    svg = '<?xml?><svg width="4pt" height="3pt" viewBox="0 0 4 3"><path id="a" style="fill: #ffffff; stroke: #3366aa"/>'
    svg += '<use xlink:href="#a" clip-path="url(#a)"/></svg>'
    page = for_page(svg, "p1")
    assert page.startswith('<svg viewBox="0 0 4 3">')
    assert 'id="p1-a"' in page
    assert 'xlink:href="#p1-a"' in page
    assert "url(#p1-a)" in page
    assert "fill: var(--paper); stroke: var(--p0, #3366aa)" in page


def test_tokens_keep_characters_whole_and_mark_what_is_special(tmp_path):
    tokenizer = write_tokenizer(tmp_path)
    decoder = FileDecoder(str(tmp_path / "tokenizer.json"))
    ids = [*tokenizer.encode("é\n€").ids, 0]
    assert len(ids) == 2 + 1 + 3 + 1
    view = token_view(ids, [-0.01] * 6 + [-4.0], [False] * 3 + [True] * 3 + [False], decoder)
    assert [token.text for token in view] == ["é", "↵\n", "€", "<|eos|>"]
    assert [token.kind for token in view] == ["", "", "injected", "special"]
    assert [token.probability for token in view] == [0, 0, None, 4]
    assert view[0].title.endswith("log-prob -0.02")
    broken = token_view([*tokenizer.encode("€").ids[:2], 0], [None] * 3, [False] * 3, decoder)
    assert [token.text for token in broken][-1] == "<|eos|>"


def test_grades():
    assert [grade(math.log(p)) for p in (0.95, 0.6, 0.3, 0.1, 0.01)] == [0, 1, 2, 3, 4]


def test_text_without_ids_marks_what_looks_special():
    assert [(token.text, token.kind) for token in marked("a<|im_end|>b</s>")] == [
        ("a", ""),
        ("<|im_end|>", "special"),
        ("b", ""),
        ("</s>", "special"),
    ]


def test_a_run_whose_metrics_need_no_config(tmp_path):
    run = read_run(write_run(tmp_path / "r", {}, metric_rows(3)))
    assert run.stage == "rl"
    assert run.total_steps is None
