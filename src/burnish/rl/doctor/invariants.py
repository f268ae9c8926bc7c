"""The promises of the house, as far as the files of one run can show them: held, broken, or not measured."""

from __future__ import annotations

from collections.abc import Iterator

from burnish.rl.doctor.finding import Invariant
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.words import number

GAP = {"float32": 1e-3, "float64": 1e-3}
"""Largest gap of a single token's log-prob that rounding explains; other dtypes are told but not judged."""


def invariants(run: RunView) -> Iterator[Invariant]:
    """One entry for each promise; a promise whose figures cannot be read is "not measured"."""
    for check in (_sampler, _masked, _denominator, _nothing_lost, _rows, _unbroken, _checkpoints):
        try:
            yield check(run)
        except Exception as error:  # a file that no one foresaw
            yield Invariant(
                check.__doc__ or check.__name__, "not measured", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            )


def _sampler(run: RunView) -> Invariant:
    """sampler and trainer give the same log-probs"""
    name, largest = _name(_sampler), run.series("sampling/sampling_logp_difference/max")[1]
    if not largest:
        return Invariant(name, "not measured", "no step logged the gap")
    dtype = str(run.setting("model.dtype", "float32"))
    figure = f"largest gap {number(max(largest))} nats over {len(largest)} steps"
    if dtype not in GAP:
        return Invariant(name, "not measured", f"{figure}; {dtype} rounds too coarsely to judge")
    return Invariant(name, "held" if max(largest) < GAP[dtype] else "broken", figure)


def _masked(run: RunView) -> Invariant:
    """nothing masked is counted: the loss tokens of each step are those of its kept rollouts"""
    name = _name(_masked)
    logged = dict(zip(*run.series("num_tokens_step")))
    counted: dict[int, int] = {}
    for group in run.groups:
        counted[group.step] = counted.get(group.step, 0) + sum(one.loss_size for one in group.samples if one.kept and not one.invalid)
    both = [(step, counted[step], logged[step]) for step in counted if step in logged and not _torn(run, step)]
    if not both:
        return Invariant(name, "not measured", "no step has both its rollouts and num_tokens_step")
    wrong = [(step, own, other) for step, own, other in both if own != other]
    if wrong:
        step, own, other = wrong[0]
        return Invariant(name, "broken", f"step {step}: {other:.0f} tokens in the loss, {own} in its kept rollouts ({len(wrong)} steps)")
    return Invariant(name, "held", f"equal in all {len(both)} steps whose rollouts were read")


def _denominator(run: RunView) -> Invariant:
    """one denominator, fixed before the batch is split"""
    return Invariant(_name(_denominator), "not measured", "a finished run cannot show it; the tests do, for every objective")


def _nothing_lost(run: RunView) -> Invariant:
    """no finished rollout is lost: those drawn are those written down"""
    name = _name(_nothing_lost)
    drawn = dict(zip(*run.series("rollouts/drawn")))
    written: dict[int, int] = {}
    for group in run.groups:
        written[group.step] = written.get(group.step, 0) + len(group.samples)
    both = [step for step in written if step in drawn and not _torn(run, step)]
    if not both:
        return Invariant(name, "not measured", "no step has both its rollouts and rollouts/drawn")
    wrong = [step for step in both if written[step] != drawn[step]]
    why = f"step {wrong[0]}: {drawn[wrong[0]]:.0f} drawn, {written[wrong[0]]} written" if wrong else f"equal in {len(both)} steps"
    return Invariant(name, "broken" if wrong else "held", why)


def _rows(run: RunView) -> Invariant:
    """every row of the data is accounted for"""
    name = _name(_rows)
    reports = {key: value for key, value in run.data.items() if isinstance(value, dict) and "read" in value}
    if not reports:
        return Invariant(name, "not measured", "data.json is missing")
    lost = [key for key, one in reports.items() if one["read"] != one["kept"] + len(one.get("skipped") or [])]
    skipped = sum(len(one.get("skipped") or []) for one in reports.values())
    figure = "; ".join(f"{key}: {one['read']} read, {one['kept']} kept" for key, one in reports.items())
    return Invariant(name, "broken" if lost else "held", f"{figure}; {skipped} left out and named")


def _unbroken(run: RunView) -> Invariant:
    """a resumed run goes on where it stopped: no step is missing"""
    name = _name(_unbroken)
    starts = run.info.get("starts")
    starts = len(starts) if isinstance(starts, list) else 0
    steps = [row["step"] for row in run.metrics if row["step"] > 0]
    if not steps:
        return Invariant(name, "not measured", "no step is done")
    missing = sorted(set(range(1, steps[-1] + 1)) - set(steps))
    if missing:
        return Invariant(name, "broken", f"{len(missing)} steps have no row in metrics.jsonl, the first is {missing[0]}")
    resumed = f", resumed {starts - 1} times" if starts > 1 else ""
    return Invariant(name, "held", f"steps 1 to {steps[-1]} are there, each once{resumed}; that the bits repeat is for the tests to show")


def _checkpoints(run: RunView) -> Invariant:
    """a checkpoint is whole or not there"""
    name = _name(_checkpoints)
    if not run.checkpoints:
        return Invariant(name, "not measured", "there is none yet")
    from burnish.runs import checkpoints

    broken = [step for step, path in run.checkpoints.items() if checkpoints.head(path) is None]
    why = f"checkpoint-{broken[0]} lacks files or has others" if broken else f"{len(run.checkpoints)} whole"
    return Invariant(name, "broken" if broken else "held", why)


def _name(check) -> str:
    return str(check.__doc__)


def _torn(run: RunView, step: int) -> bool:
    """Whether some of the step's rollouts could not be read."""
    file = run.rollout_files.get(step)
    return file is not None and any(problem.startswith(file.name) for problem in run.problems)
