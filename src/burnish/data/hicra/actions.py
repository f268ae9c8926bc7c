"""`burnish method hicra extract | mark | entropy`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from burnish.data.hicra.entropy import UNITS, by_unit, summed
from burnish.data.hicra.extract import extract
from burnish.data.hicra.grams import Grams
from burnish.data.hicra.marking import token_spans, tokens_inside
from burnish.data.hicra.sources import Completion, read_completions
from burnish.runs.actions import Action
from burnish.runs.errors import UserError

SHOWN = 10
"""Clusters that are shown after extraction."""


def _extract_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solutions", metavar="SOLUTIONS", help="JSONL file of texts, or a run folder (its right rollouts)")
    parser.add_argument("--output", default="grams.json", metavar="FILE.json", help="where the grams go")
    parser.add_argument("--field", help="the text's field (default: text, completion or solution)")
    parser.add_argument("--right", metavar="FIELD", help="take only rows in which this field is true or 1")
    parser.add_argument("--n", type=int, nargs=2, default=(3, 5), metavar=("LEAST", "MOST"), help="words of a gram")
    parser.add_argument("--keep", type=float, default=0.2, help="share of clusters kept, by document frequency")
    parser.add_argument("--clusters", type=int, help="clusters of k-means (default: square root of the number of n-grams)")
    parser.add_argument("--encoder", default="tfidf_svd", help="tfidf_svd, or your own: file.py:name")
    parser.add_argument("--stop", nargs="+", default=[], metavar="PHRASE", help="phrases that are no planning, such as boilerplate")
    parser.add_argument("--min-solutions", type=int, default=1, help="leave out grams of fewer solutions before clustering")
    parser.add_argument("--most-repeats", type=float, help="leave out clusters that occur more often than this within a solution")
    parser.add_argument("--seed", type=int, default=0, help="of encoder and clustering")


def _extract(args: argparse.Namespace) -> None:
    problems: list[str] = []
    from_run = not args.right
    texts = [
        one.text
        for one in read_completions(args.solutions, problems, args.field, args.right)
        if one.right is True or (from_run and one.right is None)
    ]
    _tell(problems)
    if not texts:
        raise UserError(f"{args.solutions} holds no right solution; check --field and --right")
    grams = extract(
        texts, args.encoder, tuple(args.n), args.keep, args.clusters, args.stop, args.min_solutions, args.most_repeats, args.seed
    )  # fmt: skip
    grams.save(args.output)
    if args.json:
        clusters = [{"cdf": one.cdf, "repeats": one.repeats, "grams": dict(one.grams)} for one in grams.clusters]
        print(json.dumps({"output": args.output, "about": dict(grams.about), "clusters": clusters}))
        return
    rows = [(str(one.cdf), f"{one.repeats:.2f}", str(len(one.grams)), "; ".join(list(one.grams)[:4])) for one in grams.clusters[:SHOWN]]
    _table(f"Top clusters of {args.solutions}", ("solutions", "repeats", "grams", "examples"), rows)
    about = grams.about
    print(f"{len(grams.grams)} grams in {len(grams.clusters)} of {about['clusters']} clusters, from {about['solutions']} solutions.")
    print(f"Grams: {args.output}. Read them before you train: boilerplate such as 'the final answer is' belongs on --stop.")


def _mark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grams", metavar="GRAMS.json", help="what extract wrote, or a JSON list of phrases")
    parser.add_argument("texts", metavar="TEXTS", help="JSONL file of texts, or a run folder")
    parser.add_argument("--field", help="the text's field (default: text, completion or solution)")
    parser.add_argument("--tokenizer", metavar="MODEL", help="folder or hub id: mark whole tokens and count them")
    parser.add_argument("--limit", type=int, default=3, help="texts shown")


def _mark(args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.text import Text

    grams, problems = Grams.load(args.grams), list[str]()
    tokenizer = None
    if args.tokenizer:
        from burnish.models.load import load_tokenizer

        tokenizer = load_tokenizer(args.tokenizer)
    rows: list[dict[str, Any]] = []
    for one in read_completions(args.texts, problems, args.field):
        if len(rows) >= args.limit:
            break
        rows.append(marked_view(one.text, grams, tokenizer))
    _tell(problems)
    if args.json:
        print(json.dumps(rows))
        return
    console = Console(soft_wrap=True, highlight=False)
    for row in rows:
        shown = Text(row["text"])
        for start, end in row["spans"]:
            shown.stylize("bold black on yellow", start, end)
        console.print(shown)
        share = f", {row['planning']} of {row['tokens']} tokens ({row['planning'] / max(1, row['tokens']):.1%})" if tokenizer else ""
        console.print(f"— {sum(row['grams'].values())} occurrences of {len(row['grams'])} grams{share}", style="dim")


def marked_view(text: str, grams: Grams, tokenizer: Any = None) -> dict[str, Any]:
    """text; spans: marked stretches of characters [start, end], whole tokens where there is a tokenizer; grams: occurrences of each.

    With a tokenizer also tokens: their number, and planning: how many are marked.
    """
    matches = grams.matcher.find(text)
    counts: dict[str, int] = {}
    for match in matches:
        counts[grams.grams[match.gram]] = counts.get(grams.grams[match.gram], 0) + 1
    spans = [(match.start, match.end) for match in matches]
    more: dict[str, int] = {}
    if tokenizer is not None:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        text, places = token_spans(
            ids, lambda some: tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )  # fmt: skip
        marks = tokens_inside(places, grams.matcher.find(text))
        spans = [place for place, mark in zip(places, marks) if mark]
        more = {"tokens": len(ids), "planning": int(marks.sum())}
    return {"text": text, "spans": _joined(spans), "grams": counts, **more}


def _joined(spans: list[tuple[int, int]]) -> list[list[int]]:
    out: list[list[int]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([start, end])
    return out


def _entropy_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grams", metavar="GRAMS.json", help="what extract wrote, or a JSON list of phrases")
    parser.add_argument("texts", metavar="RUN", help="run folder, or JSONL file of texts (with their step, where they have one)")
    parser.add_argument("--field", help="the text's field (default: text, completion or solution)")
    parser.add_argument("--unit", default="clusters", choices=UNITS, help="over clusters (paraphrases are one strategy) or grams")
    parser.add_argument("--subsample", type=int, default=256, help="occurrences of the fixed-size subsample")
    parser.add_argument("--right", action="store_true", help="right completions of a run only")


def _entropy(args: argparse.Namespace) -> None:
    if args.subsample < 1:
        raise UserError(f"--subsample is {args.subsample}; it must be at least 1")
    grams, problems = Grams.load(args.grams), list[str]()
    found = [one for one in read_completions(args.texts, problems, args.field) if one.right or not args.right]
    _tell(problems)
    rows = entropy_rows(found, grams, args.unit, args.subsample)
    if args.json:
        print(json.dumps({"grams": grams.fingerprint, "unit": args.unit, "subsample": args.subsample, "rows": rows}))
        return
    shown = [
        (
            "–" if row["step"] is None else str(row["step"]), str(row["texts"]), str(row["count"]), str(row["kinds"]),
            f"{row['value']:.3f}", "–" if row["fixed"] is None else f"{row['fixed']:.3f}",
        )
        for row in rows
    ]  # fmt: skip
    _table(
        f"Semantic entropy (nats) over {args.unit}",
        ("step", "completions", "occurrences", f"{args.unit} seen", "entropy", f"of {args.subsample} occurrences"), shown,
    )  # fmt: skip


def entropy_rows(completions: list[Completion], grams: Grams, unit: str = "clusters", size: int = 256) -> list[dict[str, Any]]:
    """One row for each step, rising (those without one first): step and the fields of SemanticEntropy."""
    steps: dict[int | None, list[str]] = {}
    for one in completions:
        steps.setdefault(one.step, []).append(one.text)
    rows = []
    for step in sorted(steps, key=lambda number: (number is not None, number or 0)):
        occurrences: dict[int, int] = {}
        for text in steps[step]:
            for match in grams.matcher.find(text):
                occurrences[match.gram] = occurrences.get(match.gram, 0) + 1
        rows.append({"step": step, **dataclasses.asdict(summed(by_unit(occurrences, grams, unit), len(steps[step]), size))})
    return rows


def _table(title: str, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    made = Table(*names, title=title, title_justify="left")
    for row in rows:
        made.add_row(*row)
    Console().print(made)


def _tell(problems: list[str]) -> None:
    for line in problems[:5]:
        print(line, file=sys.stderr)
    if len(problems) > 5:
        print(f"... and {len(problems) - 5} more", file=sys.stderr)


EXAMPLES = """burnish method hicra extract solutions.jsonl --output grams.json
burnish method hicra mark grams.json solutions.jsonl
burnish method hicra entropy grams.json runs/mine"""

actions = {
    "extract": Action("strategic grams from a corpus of right solutions", _extract_arguments, _extract, EXAMPLES),
    "mark": Action("show which words of a text are planning", _mark_arguments, _mark, EXAMPLES),
    "entropy": Action("semantic entropy of a run's completions, step by step", _entropy_arguments, _entropy, EXAMPLES),
}
