"""`burnish method ace-rl score FILE.jsonl`: texts graded by their checklists, without training; `report RUN`: what a run's texts met."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.chat.messages import text_of
from burnish.data.ace_rl.checklist import Checklist, instruction_of, load, of_columns, requirements
from burnish.data.readers import read_file
from burnish.records import Item, Rollout, Score, StopReason
from burnish.rl.rewards.ace_rl.report import Graded, agreement, graded_of, report
from burnish.rl.rewards.ace_rl.reward import AceRL
from burnish.runs import atomic
from burnish.runs.actions import Action
from burnish.runs.errors import UserError
from burnish.runs.folder import Run
from burnish.runs.yamlio import parse_scalar
from burnish.tasks.completions import Completions


def score_rows(rows: Sequence[Mapping[str, Any]], reward: AceRL) -> tuple[list[dict[str, Any]], list[Graded]]:
    """(one result for each text, all grades).

    rows: with the checklist's columns and `completion` (text or messages) or `completions` (a list); `truncated`: true where a limit cut
    them. A result: id, place, reward (None where invalid), parts, grades by item, reason.
    """
    results, grades = [], []
    for number, row in enumerate(rows, 1):
        where = f"row {number}"
        texts = _texts(row, where)
        columns = {key: value for key, value in row.items() if key not in ("prompt", "completion", "completions")}
        columns["instruction"] = instruction_of(row, where)
        item = Item(str(row.get("id", f"row-{number}")), [{"role": "user", "content": columns["instruction"]}], len(texts), columns=columns)
        stop = StopReason.LENGTH if row.get("truncated") else StopReason.EOS
        group = Completions(item, [Rollout(item.id, n, [], stop=stop) for n in range(len(texts))], texts)
        scores = reward(group)
        items = reward.asked(item).checklist.items
        for n, score in enumerate(scores):
            results.append(_result(item.id, n, score, reward.name))
            grades += graded_of(item.id, items, str(n), score.extras.get(reward.name, {}))
    return results, grades


def _texts(row: Mapping[str, Any], where: str) -> list[str]:
    given = row.get("completions", row.get("completion"))
    many = given if "completions" in row else [given]
    if isinstance(many, str) or not isinstance(many, Sequence) or not many:
        raise UserError(f"{where}: completions is {many!r}; it must be a list of texts")
    out = []
    for one in many:
        if isinstance(one, Sequence) and not isinstance(one, str) and one and isinstance(one[-1], Mapping):
            one = text_of(one[-1])
        if not isinstance(one, str):
            raise UserError(f"{where}: there is no text to score; the row needs a column 'completion' or 'completions'")
        out.append(one)
    return out


def _result(name: str, place: int, score: Score, label: str) -> dict[str, Any]:
    facts = score.extras.get(label, {})
    return {
        "id": name,
        "place": place,
        "reward": None if score.invalid else score.reward,
        "parts": score.parts,
        "length": facts.get("length"),
        "grades": facts.get("grades", {}),
        **({"reason": score.extras["reason"]} if "reason" in score.extras else {}),
    }


# --- the commands ------------------------------------------------------------------------------------------------------------------------
def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="JSONL: the columns of a checklist and 'completion' or 'completions'")
    parser.add_argument("--judge", required=True, help="{name: http, base_url: ..., model: ...}, {policy: FOLDER} or file.py:function")
    parser.add_argument("--second-judge", help="another judge of the same texts; the report says how far the two agree")
    parser.add_argument("--checklists", help="the file that `build` wrote, where FILE has no checklists: joined by instruction")
    parser.add_argument("--cache", help="a JSONL file of grades; what it holds is not asked again")
    parser.add_argument("--reward", default="{}", help="further fields of the reward, such as {hold_out: 0.2, length_weight: 0.5}")
    parser.add_argument("--output", help="write a JSONL line for each text")


def _run(args: argparse.Namespace) -> None:
    rows = _rows(Path(args.file), Path(args.checklists) if args.checklists else None)
    more = parse_scalar(args.reward, "--reward")
    if not isinstance(more, Mapping):
        raise UserError(f"--reward is {args.reward!r}; it must be a mapping such as {{hold_out: 0.2}}")
    if args.output:
        atomic.refuse_unwritable(args.output, file=True)
    rewards = [_reward(judge, args.cache, more) for judge in (args.judge, args.second_judge) if judge]
    scored = [score_rows(rows, reward) for reward in rewards]
    results, grades = scored[0]
    if args.output:
        atomic.write_text(args.output, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in results))
    found = report(grades, rewards[0].table) | means(results)
    if len(scored) == 2:
        found["agreement"] = agreement(grades, scored[1][1])
    _print(found, args.json)
    for reward in rewards:
        assert reward.panel is not None
        reward.panel.check()


def _reward(judge: str, cache: str | None, more: Mapping[str, Any]) -> AceRL:
    try:
        return AceRL(**{"judge": parse_scalar(judge, "--judge"), "cache": cache, **more})
    except TypeError as error:
        raise UserError(f"--reward: {' '.join(str(error).split()).replace('AceRL.__init__() ', '')}") from None


def _rows(path: Path, checklists: Path | None) -> list[dict[str, Any]]:
    by_instruction: dict[str, Checklist] = {one.instruction: one for _, one in load(checklists)} if checklists else {}
    out = []
    for raw in read_file(path):
        if raw.row is None:
            raise UserError(f"{raw.where}: {raw.problem}; mend the line")
        row = dict(raw.row)
        if checklists and row.get("checklist") is None:
            instruction = instruction_of(row, raw.where)
            if instruction not in by_instruction:
                raise UserError(f"{raw.where}: {checklists} has no checklist for {instruction[:60]!r}; build it first")
            row |= {key: value for key, value in by_instruction[instruction].to_row().items() if key not in ("id", "prompt")}
        of_columns(row, instruction_of(row, raw.where), raw.where)
        out.append(row)
    return out


def means(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the valid texts: mean reward and parts; and how many texts there are, and how many without a reward."""
    valid = [one for one in results if one["reward"] is not None]
    names = sorted({name for one in valid for name in one["parts"]})
    parts = {name: _mean([one["parts"][name] for one in valid if name in one["parts"]]) for name in names}
    return {"texts": len(results), "invalid": len(results) - len(valid), "reward": _mean([one["reward"] for one in valid]), "parts": parts}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if found.get("reward") is not None:
        print(f"reward {found['reward']:.3f}, " + ", ".join(f"{name} {value:.3f}" for name, value in found["parts"].items()))
    if "texts" in found:
        print(f"{found['texts']} texts, {found['invalid']} without a reward (a grade failed twice)")
    print(f"\n{'dimension':<28}{'mean':>7}{'full':>7}{'part':>7}{'none':>7}{'n':>7}")
    for name, one in found["dimensions"].items():
        print(f"{name:<28}{one['mean']:>7.3f}{one['fully met']:>7.2f}{one['partially met']:>7.2f}{one['not met']:>7.2f}{one['n']:>7}")
    for name in ("in_reward", "held_out"):
        if found[name] is not None:
            print(f"{name.replace('_', ' '):<28}{found[name]:>7.3f}")
    for name in ("never_met", "always_met"):
        shown = ", ".join(f"{prompt}/{item}" for prompt, item in found[name][:8])
        more = " ..." if len(found[name]) > 8 else ""
        print(f"{name.replace('_', ' ')}: {len(found[name])} items" + (f" ({shown}{more})" if shown else ""))
    if "agreement" in found:
        print("two judges: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found["agreement"].items()))


SCORE = Action(
    help="grade texts by their checklists, without training",
    add_arguments=_arguments,
    run=_run,
    description="burnish method ace-rl score texts.jsonl --judge '{name: http, base_url: ..., model: ...}' --cache grades.jsonl",
)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run folder of `burnish train` with this reward (rl.keep_rollouts above 0)")
    parser.add_argument("--label", default="ace_rl", help="the reward's label (default ace_rl)")


def _report(args: argparse.Namespace) -> None:
    run = Run(args.run)
    grades: list[Graded] = []
    for step in run.rollout_steps():
        for number, row in enumerate(run.rollouts(step)):
            given = row["item"]["columns"].get("checklist")
            items = requirements(given, f"{args.run}: step {step}") if given else ()
            for n, score in enumerate(row["scores"]):
                text = f"{step}.{number}.{n}"
                grades += graded_of(str(row["item"]["id"]).partition("#")[0], items, text, score["extras"].get(args.label, {}))
    if not grades:
        raise UserError(f"{args.run}: no grades in its rollouts; the run needs the reward {args.label!r} and rl.keep_rollouts above 0")
    _print(report(grades), args.json)


REPORT = Action(help="what the texts of a run met, by item and dimension", add_arguments=_report_arguments, run=_report)
