"""`burnish train --check`: eight rows through everything but the update, so that mistakes show before they cost anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from burnish.models.policy import Policy
from burnish.recipes.config import TrainConfig
from burnish.recipes.policy import require_end
from burnish.recipes.refusals import refuse_impossible
from burnish.recipes.rl import build_objective, build_source
from burnish.recipes.start_facts import reference
from burnish.recipes.train import Inputs, examples_of, items_of, load_inputs
from burnish.records import Item, Rollout, Score, StopReason, Turn
from burnish.rl.measure import Measurer
from burnish.rl.scoring import score_groups
from burnish.runs.seeds import seed_everything

ROWS, SAMPLES = 8, 2


@dataclasses.dataclass
class Shown:
    """One row as the model sees it. pieces: (token text, carries loss). gold: reward of the reference answer."""

    where: str
    pieces: list[tuple[str, bool]]
    gold: float | None = None
    gold_success: float | None = None
    samples: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class CheckResult:
    """warnings: what should be mended first. success, uniform: shares over the sampled completions and groups."""

    stage: str
    rows: list[Shown]
    warnings: list[str]
    success: float | None = None
    uniform: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def check(config: TrainConfig, *, model: Any = None, tokenizer: Any = None, data: Any = None, reward: Any = None) -> CheckResult:
    """Loads eight rows, renders prompts with their special tokens and the loss mask, scores the reference answers and samples.

    Nothing is written and no weight moves. Raises UserError as `train` would.
    """
    reward = refuse_impossible(config, data is not None, reward, model is not None)
    inputs = load_inputs(config, model, tokenizer, data)
    inputs = dataclasses.replace(inputs, rows=inputs.rows[:ROWS])
    seed_everything(config.seed)
    return _check_sft(config, inputs) if config.stage == "sft" else _check_rl(config, inputs, reward)


def _check_sft(config: TrainConfig, inputs: Inputs) -> CheckResult:
    examples = examples_of(config, inputs.policy, inputs.rows)
    shown = [Shown(one.where, pieces(inputs.policy, one.ids, one.mask)) for one in examples]
    ends = set(inputs.policy.eos_ids)
    without = [one.where for one in examples if not any(token in ends and flag for token, flag in zip(one.ids, one.mask))]
    warnings = [f"{where}: no end-of-sequence token carries loss, so the model will not learn to stop here" for where in without]
    return CheckResult("sft", shown, warnings)


def _check_rl(config: TrainConfig, inputs: Inputs, reward: Any) -> CheckResult:
    policy = inputs.policy
    require_end(policy, config.sampling.stop)
    items = items_of(config, policy, inputs.rows, SAMPLES)
    measurer = Measurer({"policy": policy})
    source = build_source(config, policy, items, measurer, build_objective(config.rl), reward)
    rendered = [policy.encode(item.messages, tools=item.columns.get("tools"), **config.model.template_args) if item.is_chat
                else item.token_ids for item in items]  # fmt: skip
    warnings = []
    groups = score_groups(source.think(items, 0, 0), source.reward, source.shapers, policy, measurer)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if broken := [rollout.outcome for rollout in rollouts if rollout.stop == StopReason.ERROR]:
        warnings.append(f"{len(broken)} of {len(rollouts)} rollouts ended in an error, the first: {broken[0]}")
    shown = []
    for item, ids, group, where in zip(items, rendered, groups, inputs.rows.where):
        one = Shown(where, pieces(policy, ids, np.zeros(len(ids), bool)))
        gold = reference(item)
        if gold is not None:
            score = gold_score(item, ids, gold, source.reward, policy, measurer)
            one.gold, one.gold_success = score.reward, score.success
            if not score.invalid and (score.success == 0 or (score.success is None and score.reward <= 0)):
                remedy = "check the reward or the answer" if score.reward <= 0 else "check the reward, the answer or rl.success_above"
                warnings.append(f"{where}: the reference answer {gold[:40]!r} scores {score.reward:g}; {remedy}")
        one.samples = [
            {"text": policy.decode(rollout.output_ids), "reward": score.reward, "success": score.success, "stop": str(rollout.stop)}
            for rollout, score in zip(group.rollouts, group.scores)
        ]
        shown.append(one)
    scores = [score for group in groups for score in group.scores if not score.invalid]
    known = [score.success for score in scores if score.success is not None]
    uniform = [len({score.reward for score in group.scores if not score.invalid}) <= 1 for group in groups]
    if all(rollout.stop == StopReason.LENGTH for rollout in rollouts):
        warnings.append("every completion was cut at rl.max_new_tokens; raise it, or teach the model to stop first (stage sft)")
    return CheckResult("rl", shown, warnings, float(np.mean(known)) if known else None, float(np.mean(uniform)))


def gold_score(item: Item, ids: Sequence[int], gold: str, reward: Any, policy: Policy, measurer: Measurer) -> Score:
    """The reward of the reference answer, as if the policy had written it."""
    output = policy.tokenizer(gold, add_special_tokens=False)["input_ids"] + list(policy.eos_ids)[:1]
    rollout = Rollout(item.id, 0, [Turn(list(ids), output, np.zeros(len(output)))])
    return score_groups([(item, [rollout])], reward, [], policy, measurer)[0].scores[0]


def pieces(policy: Policy, ids: Sequence[int], mask: Sequence[bool] | np.ndarray) -> list[tuple[str, bool]]:
    """Stretches of tokens with and without loss, special tokens visible."""
    out: list[tuple[list[int], bool]] = []
    for token, flag in zip(ids, mask):
        if not out or out[-1][1] != bool(flag):
            out.append(([], bool(flag)))
        out[-1][0].append(token)
    return [(policy.decode(part, skip_special_tokens=False), flag) for part, flag in out]


def show(result: CheckResult, console: Console | None = None) -> None:
    """Prints the result for people: loss tokens in green, reference answers and samples by reward."""
    console = console or Console()
    for number, row in enumerate(result.rows):
        console.print(Text(f"row {number} ({row.where})", style="bold"))
        for text, flag in row.pieces:
            console.print(Text(text, style="green" if flag else "dim"), end="", soft_wrap=True)  # no line break that is not the prompt's
        console.print()
        if row.gold is not None:
            style = "red" if row.gold <= 0 else "green"
            console.print(Text(f"  reference answer scores {row.gold:g}", style=style))
        for sample in row.samples:
            console.print(
                Text(f"  [{sample['reward']:g}] {sample['text']!r} ({sample['stop']})", style="green" if sample["reward"] > 0 else "yellow")
            )
    if result.stage == "sft":
        console.print("green: tokens that carry loss")
    if result.success is not None:
        console.print(f"success of {SAMPLES} samples a prompt: {result.success:.1%}")
    if result.uniform is not None:
        console.print(f"groups whose rewards are all equal: {result.uniform:.1%} (they teach nothing)")
    for warning in result.warnings:
        console.print(Text(f"warning: {warning}", style="bold red"), soft_wrap=True)
    console.print(
        "checked; no weight was changed" if not result.warnings else f"checked with {len(result.warnings)} warnings; no weight was changed"
    )
