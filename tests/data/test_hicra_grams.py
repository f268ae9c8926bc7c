"""HICRA's strategic grams: words, matches, extraction, document frequencies, the grams file, semantic entropy, marks and actions."""

from __future__ import annotations

import json
import math
import pathlib
import random
import sys

import numpy as np
import pytest

from burnish import cli
from burnish.data.hicra import encoders, extract, semantic_entropy
from burnish.data.hicra.actions import marked_view
from burnish.data.hicra.entropy import by_unit, entropy, subsampled
from burnish.data.hicra.extract import choose, cluster_frequency_naive, highest, list_ngrams, n_clusters, n_kept
from burnish.data.hicra.grams import Cluster, Grams
from burnish.data.hicra.marking import mark_rollout, token_spans, token_spans_naive, tokens_inside
from burnish.data.hicra.words import Matcher, find_naive, ngrams, stretches
from burnish.models import tokenizer
from burnish.records import Rollout, Turn
from burnish.runs.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden_hicra"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


# --- words and matches ----------------------------------------------------------------------------------------------------------------
def test_words_stay_in_their_stretch():
    assert [[word.text for word in one] for one in stretches("Wait, let's  try\nagain. x = 3\n\nand so")] == [
        ["wait", "let's", "try", "again"], ["x"], ["3"], ["and", "so"],
    ]  # fmt: skip
    assert list(ngrams("a b c. d e", 2, 3)) == ["a b", "a b c", "b c", "d e"]
    assert stretches(" ?! ") == []


def test_matches_are_those_of_the_golden_texts():
    found = golden("marking")
    matcher = Matcher(found["grams"])
    for case in found["cases"]:
        matches = matcher.find(case["text"])
        counts = {gram: sum(found["grams"][match.gram] == gram for match in matches) for gram in found["grams"]}
        assert {gram: n for gram, n in counts.items() if n} == case["occurrences"]
        spans = [tuple(span) for span in case["token_offsets"]]
        assert np.flatnonzero(tokens_inside(spans, matches)).tolist() == case["planning_tokens"]


def test_the_trie_finds_what_one_regular_expression_a_phrase_finds():
    draw = random.Random(0)
    words, gaps = ["let", "us", "try", "don't", "go", "x", "2"], [" ", ", ", "\n", "\n\n", ". ", "-", "’s ", "'", " = ", "  ", "*"]
    for _ in range(400):
        phrases = list({" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(5)})
        text = "".join(draw.choice(words) + draw.choice(gaps) for _ in range(25))
        text = text.upper() if draw.random() < 0.5 else text
        assert Matcher(phrases).find(text) == find_naive(phrases, text)


# --- marks ----------------------------------------------------------------------------------------------------------------------------
def decode_with(words):
    return lambda ids: words.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("kind", ["bytes", "bpe", "characters"])
def test_token_spans_are_those_of_decoding_every_prefix(kind):
    text = "Let us try: 3 × 4 → 日本 😀 café, go on"
    words = {
        "bytes": tokenizer.byte_level,
        "bpe": lambda: tokenizer.trained([text] * 3, 290),
        "characters": lambda: tokenizer.characters(sorted(set(text))),
    }[kind]()
    decode = decode_with(words)
    ids = [*words(text)["input_ids"], words.eos_token_id, *words("café")["input_ids"]]
    found, spans = token_spans(ids, decode)
    assert (found, spans) == token_spans_naive(ids, decode)
    assert found == text + "café"
    assert spans[len(ids) - len(words("café")["input_ids"]) - 1] == (len(text), len(text)), "a special token writes nothing"
    assert token_spans([], decode) == ("", [])


def test_every_byte_of_a_character_in_a_match_counts():
    words = tokenizer.byte_level()
    grams = Grams.of(["das prüfen wir"])
    ids = words("Ja, das prüfen wir.")["input_ids"]
    marks = mark_rollout(Rollout("p", 0, [Turn([1], ids, np.zeros(len(ids)))]), grams, decode_with(words))
    assert marks.tokens.tolist() == [False] * 4 + [True] * len("das prüfen wir".encode()) + [False]
    assert marks.occurrences == {0: 1}


def test_prompts_injected_tokens_and_special_tokens_are_never_marked():
    words = tokenizer.byte_level()
    phrase, grams = words("go back and check")["input_ids"], Grams.of(["go back and check"])
    n = len(phrase)
    own = Turn(phrase, [*phrase, words.eos_token_id], np.zeros(n + 1))
    forced = Turn([1], phrase, np.zeros(n), np.ones(n, dtype=bool))
    half = Turn([1], phrase, np.zeros(n), np.arange(n) < 8)
    frozen = Turn([1], phrase, np.zeros(n), train=False)
    marks = mark_rollout(Rollout("p", 0, [own, forced, half, frozen]), grams, decode_with(words))
    assert marks.tokens.tolist() == [True] * n + [False] + [True] * (n - 8)
    assert marks.occurrences == {0: 2}, "an occurrence without a token of the policy's own does not count"
    split = Rollout("p", 0, [Turn([1], phrase[:8], np.zeros(8)), Turn([1], phrase[8:], np.zeros(n - 8))])
    assert not mark_rollout(split, grams, decode_with(words)).tokens.any(), "a phrase does not reach over the end of a turn"


def test_overlapping_grams_mark_a_token_once_and_each_counts():
    words = tokenizer.characters("abcdefghijklmnopqrstuvwxyz ")
    grams = Grams.of([["let us try another way", "try another way"], ["never said here"]])
    ids = words("let us try another way")["input_ids"]
    marks = mark_rollout(Rollout("p", 0, [Turn([1], ids, np.zeros(len(ids)))]), grams, decode_with(words))
    assert marks.tokens.all()
    assert marks.occurrences == {0: 1, 1: 1}
    assert by_unit(marks.occurrences, grams, "clusters").tolist() == [2, 0]


# --- entropy --------------------------------------------------------------------------------------------------------------------------
def test_semantic_entropy_is_golden():
    found, texts = golden("semantic_entropy"), golden("marking")
    for case in found["counts"]:
        assert entropy(case["counts"]) == pytest.approx(abs(case["entropy"]), abs=1e-12)
    wanted = found["from_marking"]
    clusters: dict[int, list[str]] = {}
    for gram, number in wanted["gram_cluster"].items():
        clusters.setdefault(number, []).append(gram)
    grams = Grams.of([clusters[number] for number in sorted(clusters)])
    counts: dict[str, int] = {}
    for case in texts["cases"]:
        for match in grams.matcher.find(case["text"]):
            counts[grams.grams[match.gram]] = counts.get(grams.grams[match.gram], 0) + 1
    assert counts == wanted["counts"]
    by_cluster = by_unit({grams.grams.index(gram): n for gram, n in counts.items()}, grams, "clusters")
    assert {str(place): n for place, n in enumerate(by_cluster.tolist()) if n} == wanted["cluster_counts"]
    for unit in ("clusters", "grams"):
        measured = semantic_entropy([case["text"] for case in texts["cases"]], grams, unit, size=8)
        assert measured.value == pytest.approx(wanted[f"entropy_{unit}"], abs=1e-12)
        assert (measured.count, measured.texts) == (8, 5)
        assert measured.fixed == pytest.approx(measured.value), "a subsample of all occurrences is all of them"


def test_a_fixed_subsample_does_not_grow_with_the_number_of_occurrences():
    few, many = np.full(20, 2), np.full(20, 200)
    assert subsampled(few, 40) == pytest.approx(math.log(20))
    assert subsampled(many, 40) == pytest.approx(subsampled(np.full(20, 100), 40), abs=0.1)
    assert subsampled(many, 40) < math.log(20)
    assert subsampled(few, 41) is None
    assert subsampled(many, 40, seed=3) == subsampled(many, 40, seed=3)
    nothing = semantic_entropy(["no plan"], Grams.of(["go back and check"]))
    assert (nothing.value, nothing.count, nothing.fixed) == (0.0, 0, None)
    with pytest.raises(UserError, match="unit is 'words'"):
        by_unit({}, Grams.of(["a"]), "words")


# --- extraction -----------------------------------------------------------------------------------------------------------------------
def test_cluster_frequency_and_what_is_kept_are_golden():
    found = golden("cluster_frequency")
    cdf = cluster_frequency_naive(found["solutions"], len(found["cdf"]))
    assert cdf.tolist() == found["cdf"]
    assert highest(cdf, n_kept(len(cdf), 0.2)) == found["kept"]
    assert highest([3, 5, 5], 2) == [1, 2]
    assert (n_clusters(1), n_clusters(99), n_clusters(2500)) == (1, 10, 50)


SOLUTIONS = [
    "Let us try another way. Alpha beta gamma delta.",
    "We could try another way. Alpha beta gamma delta. Alpha beta gamma delta. So the final answer is 4.",
    "Let us try another way. Rho sigma tau phi. So the final answer is 5.",
]


def by_phrase(phrases):
    """An encoder that tells planning, boilerplate and the rest apart."""
    return [[float("way" in one or "try" in one), float("answer" in one or "final" in one)] for one in phrases]


def test_clusters_are_ranked_by_the_solutions_they_occur_in():
    grams = extract(SOLUTIONS, by_phrase, keep=0.34, clusters=3)
    (kept,) = grams.clusters
    listed = list_ngrams(SOLUTIONS)
    assert set(kept.grams) == {one for one in listed.phrases if "way" in one or "try" in one}
    assert (kept.cdf, kept.grams["try another way"], kept.grams["let us try"]) == (3, 3, 2)
    assert next(iter(kept.grams)) == "try another way", "the most frequent first"
    assert kept.repeats == 1.0
    assert grams.about["cdf"] == [3, 3, 2]
    labels = {one: int(2 * ("answer" in one or "final" in one) + ("way" in one or "try" in one)) for one in listed.phrases}
    naive = cluster_frequency_naive([[labels[one] for one in ngrams(text, 3, 5)] for text in SOLUTIONS], 3)
    assert sorted(naive.tolist(), reverse=True) == grams.about["cdf"]
    assert extract(SOLUTIONS, by_phrase, keep=0.34, clusters=3).fingerprint == grams.fingerprint


def test_stop_phrases_rare_grams_and_repeats_can_be_left_out():
    listed = list_ngrams(SOLUTIONS)
    stopped = choose(listed, stop=["the final answer is"])
    left = set(listed.phrases) - set(stopped.phrases)
    assert {"the final answer", "final answer is", "so the final answer is"} <= left
    assert "answer is 4" in set(stopped.phrases), "neither holds the stop phrase nor is part of it"
    assert set(choose(listed, min_solutions=3).phrases) == {"try another way"}
    rest = extract(SOLUTIONS, by_phrase, keep=1.0, clusters=3, most_repeats=1.0)
    assert "alpha beta gamma" not in rest.grams
    assert "alpha beta gamma" in extract(SOLUTIONS, by_phrase, keep=1.0, clusters=3).grams


def test_the_built_in_encoder_brings_paraphrases_together():
    phrases = ["let us try another way", "we could try another way", "divide both sides by", "dividing both sides by"]
    x = encoders.make_encoder("tfidf_svd", seed=1)(phrases)
    close = x @ x.T
    assert np.allclose(np.linalg.norm(x, axis=1), 1)
    assert min(close[0, 1], close[2, 3]) > 0.3 > close[:2, 2:].max()
    assert np.array_equal(x, encoders.make_encoder("tfidf_svd", seed=1)(phrases))


def test_extraction_says_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "def bad(phrases):\n    return [[1.0]]\nclass Model:\n    def encode(self, x):\n        return [[1.0]] * len(x)\n"
    )
    assert len(extract(SOLUTIONS, f"{tmp_path}/mine.py:Model").clusters) == 1
    for arguments, says in (
        ({"encoder": f"{tmp_path}/mine.py:bad"}, "one finite row for each"),
        ({"encoder": "tfidf"}, "did you mean 'tfidf_svd'"),
        ({"encoder": 3}, "neither a function"),
        ({"n": (4, 3)}, "least <= most"),
        ({"keep": 0}, "keep is 0"),
        ({"clusters": 0}, "clusters is 0"),
        ({"min_solutions": 0}, "min_solutions is 0"),
        ({"most_repeats": 0.5}, "most_repeats is 0.5"),
        ({"min_solutions": 4}, "no n-gram of 3 to 5 words is left"),
    ):
        with pytest.raises(UserError, match=says):
            extract(SOLUTIONS, **arguments)
    with pytest.raises(UserError, match="there is no solution"):
        extract([])
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(UserError, match=r"install burnish\[text\]"):
        extract(SOLUTIONS)


# --- the file -------------------------------------------------------------------------------------------------------------------------
def test_the_grams_file_keeps_everything(tmp_path):
    grams = Grams((Cluster({"let us try": 4, "We’ll try": 1}, 5, 1.5), Cluster({"go back": 2})), {"seed": 3})
    grams.save(tmp_path / "g.json")
    again = Grams.load(tmp_path / "g.json")
    assert (again.clusters, again.about) == (grams.clusters, grams.about)
    assert again.grams == ("let us try", "We’ll try", "go back")
    assert again.cluster_of == (0, 0, 1)
    assert Grams.of(["go back", ["we'll try", "LET US TRY"]]).fingerprint == grams.fingerprint
    assert Grams.of(["go back", "we'll try", "let us try"]).fingerprint != grams.fingerprint
    (tmp_path / "list.json").write_text('["go back", ["we\'ll try", "let us try"]]')
    assert Grams.load(tmp_path / "list.json").fingerprint == grams.fingerprint


def test_a_bad_grams_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the grams file .*burnish method hicra extract"):
        Grams.load(tmp_path / "none.json")
    file = tmp_path / "g.json"
    for text, says in (
        ("{", "is not JSON"),
        ("3", "a list of phrases, or an object"),
        ("[]", "hold no gram"),
        ('["?!"]', "holds no word"),
        ('["go back", ["Go, back"]]', "is there twice"),
        ('{"clusters": [{"grams": [1]}]}', "cluster 1: 'grams'"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=says) as error:
            Grams.load(file)
        assert str(file) in str(error.value)


# --- actions --------------------------------------------------------------------------------------------------------------------------
def told(capsys, *words):
    assert cli.main(["method", "hicra", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def run_folder(root):
    """A run of two steps with one group each."""
    (root / "run" / "rollouts").mkdir(parents=True)
    for step, texts in ((1, ["Let us try another way.", "Go back and check."]), (3, ["Let us try another way.", "Nothing."])):
        scores = [{"success": 1.0}, {"success": 0.0}]
        row = {"item": {"id": "a"}, "rollouts": [], "scores": scores, "texts": texts}
        (root / "run" / "rollouts" / f"step-{step:06d}.jsonl").write_text(json.dumps(row) + "\n")
    return str(root / "run")


def test_extract_mark_and_entropy_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": text, "ok": True} for text in SOLUTIONS] + [{"text": "wrong wrong wrong", "ok": False}, {"nothing": 1}]
    pathlib.Path("s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = told(capsys, "extract", "s.jsonl", "--right", "ok", "--keep", "1", "--stop", "the final answer is")
    assert found["about"]["solutions"] == 3
    assert Grams.load("grams.json").fingerprint == Grams(tuple(Cluster(one["grams"]) for one in found["clusters"])).fingerprint
    assert cli.main(["method", "hicra", "extract", "s.jsonl", "--right", "ok"]) == 0
    assert "Read them before you train" in capsys.readouterr().out
    pathlib.Path("g.json").write_text('["let us try another way", "go back and check"]')
    rows = told(capsys, "entropy", "g.json", run_folder(tmp_path), "--subsample", "2")["rows"]
    assert [(row["step"], row["count"], row["texts"]) for row in rows] == [(1, 2, 2), (3, 1, 2)]
    assert [row["value"] for row in rows] == [pytest.approx(math.log(2)), 0.0]
    assert [row["fixed"] for row in rows] == [pytest.approx(math.log(2)), None]
    right = told(capsys, "entropy", "g.json", "run", "--right")["rows"]
    assert [row["count"] for row in right] == [1, 1]
    assert told(capsys, "mark", "g.json", "s.jsonl", "--limit", "1")[0]["spans"] == [[0, 22]]
    assert cli.main(["method", "hicra", "mark", "g.json", "run", "--limit", "1"]) == 0
    assert "1 occurrences of 1 grams" in capsys.readouterr().out


def test_a_tokenizer_marks_whole_tokens():
    words = tokenizer.trained(["let us try another way now"] * 20, 300)
    row = marked_view("So let us try.", Grams.of(["let us"]), words)
    assert row["text"] == "So let us try."
    covered = "".join(row["text"][start:end] for start, end in row["spans"])
    assert covered.strip() == "let us"
    assert 0 < row["planning"] < row["tokens"] == len(words("So let us try.")["input_ids"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["entropy", "none.json", "s.jsonl"], "cannot read the grams file none.json"),
        (["entropy", "g.json", "none"], "no such file or run folder"),
        (["entropy", "g.json", "."], "holds no rollouts"),
        (["entropy", "g.json", "s.jsonl", "--subsample", "0"], "--subsample is 0"),
        (["extract", "s.jsonl", "--right", "ok"], "holds no right solution"),
    ],
)
def test_what_the_actions_refuse(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("s.jsonl").write_text('{"text": "a b c d"}\n')
    pathlib.Path("g.json").write_text('["a b c"]')
    assert cli.main(["method", "hicra", *words]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
