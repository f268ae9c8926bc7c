"""A verifier that fails: it breaks on some items, calls right answers wrong, or says now this and now that of the same answer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView, Sample, SampledGroup
from burnish.rl.doctor.words import enough, example, share

BROKEN, WRONG, UNSTEADY, AT_LEAST = 0.02, 0.03, 0.05, 5
"""Shares of invalid scores, of reference answers called wrong, and of repeated answers judged both ways; and how many at least."""
GOLD = ("completion", "answer", "solution", "ground_truth", "target")
_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<eos>|<pad>|<bos>|<end_of_turn>|<unk>")

Pair = tuple[SampledGroup, Sample]


def diagnose(run: RunView) -> list[Finding]:
    """verifier_fails."""
    enough(run, "rl", 2)
    pairs = [(group, one) for group in run.groups for one in group.samples]
    if len(pairs) < 50:
        found = _counted(run)
        if not found:
            raise TooLittle(f"too little to tell: {len(pairs)} completions were kept, 50 are needed (rl.keep_rollouts)")
        return found
    return _invalid(pairs) or _denied(pairs) or _unsteady(pairs)


def _invalid(pairs: list[Pair]) -> list[Finding]:
    bad = [pair for pair in pairs if pair[1].invalid and pair[1].stop != "error"]
    if len(bad) < max(AT_LEAST, BROKEN * len(pairs)):
        return []
    items, reasons = Counter(group.item for group, _ in bad), Counter(one.reason for _, one in bad if one.reason)
    asked = len({group.item for group, _ in pairs})
    evidence = [f"{len(bad)} of {len(pairs)} completions read, on {len(items)} of {asked} items; most often {_named(items)}"]
    if reasons:
        evidence.append(f"reason given most often: {reasons.most_common(1)[0][0]} ({reasons.most_common(1)[0][1]} times)")
    return [_finding(f"The verifier broke on {share(len(bad) / len(pairs))} of the completions; they are left out of training.",
                     [*evidence, example(*bad[0])])]  # fmt: skip


def _denied(pairs: list[Pair]) -> list[Finding]:
    """Completions that are the reference answer, word by word, and got no success."""
    matching: dict[bool, list[Pair]] = {True: [], False: []}
    for group, one in pairs:
        if one.ended and one.success is not None and not one.invalid and _is_reference(group, one):
            matching[one.success > 0].append((group, one))
    wrong, right = matching[False], matching[True]
    total = len(wrong) + len(right)
    items = Counter(group.item for group, _ in wrong)
    if len(wrong) < max(AT_LEAST, WRONG * total) or len(items) < 2:
        return []
    known = len({group.item for group, _ in [*wrong, *right]})
    return [
        _finding(
            f"The verifier calls {share(len(wrong) / total)} of the completions wrong that are the reference answer, word by word.",
            [f"{len(wrong)} of {total} such completions, on {len(items)} of {known} items; most often {_named(items)}", example(*wrong[0])],
        )
    ]


def _unsteady(pairs: list[Pair]) -> list[Finding]:
    verdicts: dict[tuple, list[Pair]] = defaultdict(list)
    for group, one in pairs:
        if one.success is not None and not one.invalid:
            verdicts[group.item, one.ids, one.stop].append((group, one))
    repeated = [found for found in verdicts.values() if len(found) > 1]
    both = [found for found in repeated if len({one.success for _, one in found}) > 1]
    if len(both) < max(AT_LEAST, UNSTEADY * len(repeated)):
        return []
    first = both[0]
    shown = {one.success: (group, one) for group, one in first}
    return [
        _finding(
            f"The verifier judges the same completion of the same item now this way and now that, in {share(len(both) / len(repeated))} "
            "of those that were written more than once.",
            [f"{len(both)} of {len(repeated)} repeated completions", *(example(*pair) for pair in shown.values())],
        )
    ]


def _counted(run: RunView) -> list[Finding]:
    """Without rollouts: the counts of the metrics."""
    rows = [(row.get("rollouts/invalid"), row.get("rollouts/drawn")) for row in run.metrics]
    known = [(bad, drawn) for bad, drawn in rows if isinstance(bad, float) and isinstance(drawn, float)]
    bad, drawn = sum(one for one, _ in known), sum(one for _, one in known)
    if bad < max(AT_LEAST, BROKEN * drawn):
        return []
    return [_finding(f"The verifier broke on {share(bad / drawn)} of the completions; they are left out of training.",
                     [f"{bad:.0f} of {drawn:.0f} completions (rollouts/invalid)"])]  # fmt: skip


def _is_reference(group: SampledGroup, one: Sample) -> bool:
    written = _plain(one.text)
    return bool(written) and any(isinstance(value := group.columns.get(name), str | int) and written == _plain(str(value)) for name in GOLD)


def _plain(text: str) -> str:
    return " ".join(_SPECIAL.sub(" ", text).split())


def _named(items: Counter) -> str:
    return ", ".join(f"{name} ({count})" for name, count in items.most_common(3))


def _finding(sentence: str, evidence: list[str]) -> Finding:
    remedy = "run the verifier by hand on the items above (columns and completion as shown), mend it or drop those rows of data.path"
    return Finding("verifier_fails", "fault", sentence, tuple(evidence), remedy, cause=25)
