"""Combinations that cannot work, refused before anything loads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from burnish.records import Sampling
from burnish.rl.credit.chain import step_name
from burnish.rl.objectives.corrections.importance import Importance
from burnish.runs.errors import UserError

if TYPE_CHECKING:
    from burnish.rl.objectives.objective import Objective


def check_run(
    objective: Objective,
    group_size: int,
    sampling: Sampling | None = None,
    models: Collection[str] | None = None,
    replays_support: bool = False,
    parts: Sequence[Any] = (),
) -> None:
    """Raises UserError with reason and remedy.

    parts: rewards and shapers; one may name in `cancelled_by` the credit steps that would undo it.
    """
    steps = [step_name(step) for step in objective.credit.steps]
    least = objective.credit.least_group
    if group_size < least:
        culprit = max(objective.credit.steps, key=lambda step: getattr(step, "least_group", 2 if getattr(step, "group", False) else 1))
        raise UserError(
            f"group_size is {group_size}, but credit {step_name(culprit)!r} of objective {objective.name!r} compares the completions of a "
            f"prompt; set group_size to {least} or more, or credit to 'moving'"
        )
    if sampling is not None and sampling.truncates and not replays_support:
        raise UserError(
            "sampling with top_k, top_p, min_p or bans draws from another distribution than the one that is trained; "
            "set top_k 0, top_p 1, min_p 0 and no bans, or use a thinker that replays the support"
        )
    if sampling is not None and sampling.temperature == 0 and "greedy" not in steps:
        raise UserError("sampling.temperature is 0: all completions of a prompt are the same and nothing can be learned; set it above 0")
    if models is not None and objective.kl.active and "reference" not in models:
        raise UserError(
            f"objective {objective.name!r} has kl.beta {objective.kl.beta} but the run has no reference model; give one, or set beta to 0"
        )
    for part in parts:
        undone = [name for name in getattr(part, "cancelled_by", ()) if name in steps]
        if undone:
            raise UserError(f"{step_name(part)!r} shapes what credit step {undone[0]!r} would cancel again; leave out that step")


def check_updates(objective: Objective, minibatches: int = 1, epochs: int = 1, lag: int = 0) -> None:
    """Raises UserError where an objective without a ratio would learn from what another policy wrote, as if it were its own.

    The corrections that read exp(l_o - l_b) make good a lag; between the updates on one batch they do not move.
    """
    if getattr(objective.ratio, "level", None) != "none":
        return
    updates = minibatches * epochs
    named = f"objective {objective.name!r} has no ratio (ratio none), which would correct for a policy that moved"
    if updates > 1:
        raise UserError(
            f"{named}, but rl.minibatches {minibatches} x rl.epochs {epochs} are {updates} updates on one batch; set both to 1, or choose "
            "an objective with a ratio (dr_grpo, gspo, cispo ...)"
        )
    if lag and not any(isinstance(part, Importance) for part in objective.correction):
        raise UserError(
            f"{named}, but rl.lag is {lag}: batches are written by an older policy; set rl.lag to 0, add a correction (truncate or mask: "
            f"rl.objective {{preset: {objective.name.rstrip('*')}, correction: truncate}}), or choose an objective with a ratio"
        )
