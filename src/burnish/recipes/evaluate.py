"""`burnish eval` and `burnish generate`: measure a model on held-out data, or just look at what it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from burnish.data.config import DataConfig
from burnish.data.items import refuse_rows_without_prompts, to_items
from burnish.data.readers import suffix_of
from burnish.inference.engine import Engine
from burnish.inference.generate import generate
from burnish.models.policy import Policy
from burnish.recipes.config import ModelConfig, Part, SamplingConfig
from burnish.recipes.policy import load_policy
from burnish.recipes.refusals import refuse_model
from burnish.recipes.rl import weighted
from burnish.records import Limits
from burnish.runs.config import Config
from burnish.runs.errors import UserError
from burnish.runs.progress import bar
from burnish.tasks.evaluation import EvalResult, evaluate


class EvalRunConfig(Config):
    """Everything of an evaluation that is not its model, data and reward."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: DataConfig | None = Field(None, description="where the rows are and what their columns mean")
    rewards: tuple[Part, ...] = Field((), description="what counts; several are added up")
    success_above: float | None = Field(1.0, description="a value of your reward function at or above this is a success; null: unknown")
    samples: int = Field(1, ge=1, description="completions for each prompt")
    max_new_tokens: int = Field(256, ge=1, description="longest completion, in tokens")
    max_prompt_tokens: int | None = Field(None, ge=1, description="longest prompt; longer ones are bad rows")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    engine_mode: Literal["auto", "exact", "fast"] = Field("auto", description="exact: a token's bits do not depend on its neighbours")
    seed: int = Field(0, ge=0, description="completions repeat from it")
    threads: int | None = Field(None, ge=1, description="CPU threads; unset: chosen by the model's size")


def run_evaluation(
    config: EvalRunConfig,
    *,
    model: Any = None,
    tokenizer: Any = None,
    data: Any = None,
    reward: Any = None,
    earlier: EvalResult | None = None,
    silent: bool = True,
) -> EvalResult:
    """pass@1, pass@k, mean@k with intervals clustered by prompt. Objects may stand in for model, data and reward.

    earlier: a result that this one is to be compared with. Raises UserError, before anything is generated, where it holds other items.
    """
    if config.data is None and data is None:
        raise UserError("data.path is not set; name a file with prompts")
    given = config.rewards if reward is None else reward if isinstance(reward, list | tuple) else [reward]
    if not given:
        raise UserError("no reward is given; name one, e.g. reward.py:score")
    refuse_model(config.model, model is not None)
    made = weighted(given, None, (), config.success_above)
    source = config.data or DataConfig(path="data")
    rows = source.load(data)
    refuse_rows_without_prompts(rows)
    policy = load_policy(config.model, model, tokenizer, config.threads)
    made.bind(policy.decode)
    items = to_items(
        rows,
        policy,
        1,
        Limits(max_new_tokens=config.max_new_tokens),
        config.model.template_args,
        source.tools_column,
        max_prompt_tokens=config.max_prompt_tokens,
        too_long=source.bad_rows,
    )
    if earlier is not None and (missing := len({item.id for item in items} ^ {item.id for item in earlier.items})):
        raise UserError(
            f"--against: the earlier result and {rows.report.source} hold different items ({missing} are in one only); "
            "compare results of the same held-out items"
        )
    with bar(len(items), "eval", silent=silent) as progress:
        return evaluate(
            policy,
            items,
            made,
            samples=config.samples,
            sampling=config.sampling.sampling(),
            seed=config.seed,
            engine=Engine(policy.model, policy.tokenizer, policy.eos_ids, mode=config.engine_mode),
            name=config.model.path,
            template_args=config.model.template_args,
            progress=lambda done, total: progress.update(done),
        )


def result_rows(result: EvalResult, earlier: EvalResult | None = None) -> list[dict[str, Any]]:
    """Table rows: measure, value and 95 % interval; with an earlier result the paired difference."""
    from burnish.tasks.evaluation import paired_difference

    measures = {"pass@1": result.success(), **{f"pass@{k}": result.pass_at(k) for k in result.ks if k > 1}, "reward": result.reward()}
    if earlier is not None:
        measures["success - earlier"] = paired_difference(earlier, result)
    return [
        {"measure": name, "value": found.mean, "low": found.low, "high": found.high}
        for name, found in measures.items()
        if found.mean == found.mean
    ]


def prompts_of(words: Sequence[str], file: str | None) -> list[str | list[dict[str, Any]]]:
    """Prompts from the command line, or from a file: JSONL with a `prompt` column, else one prompt a line."""
    if file is None:
        return list(words)
    if suffix_of(Path(file)):
        return [row["prompt"] for row in DataConfig(path=file, format="prompt").load()]
    try:
        lines = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}; check --file") from None
    if not lines:
        raise UserError(f"{file}: the file is empty; write one prompt a line")
    return list(lines)


def complete(
    policy: Policy, prompts: Sequence[Any], config: EvalRunConfig, chat: bool = False, n: int = 1, stream: Any = None
) -> list[list[str]]:
    """n completions of each prompt as text. chat: text prompts become user messages."""
    ids = [
        policy.encode([{"role": "user", "content": prompt}] if chat and isinstance(prompt, str) else prompt,
                      **(config.model.template_args if chat or not isinstance(prompt, str) else {}))
        for prompt in prompts
    ]  # fmt: skip
    for number, found in enumerate(ids, 1):
        if not found:
            raise UserError(f"prompt {number} has no tokens; write at least a word")
        if policy.max_length is not None and len(found) >= policy.max_length:
            raise UserError(
                f"prompt {number} has {len(found)} tokens and the model's context is {policy.max_length}, "
                "which must leave room for an answer; shorten it"
            )
    engine = Engine(policy.model, policy.tokenizer, policy.eos_ids, mode=config.engine_mode)
    turns = generate(engine, ids, config.sampling.sampling(), n=n, max_new_tokens=config.max_new_tokens, seeds=config.seed, stream=stream)
    return [[policy.decode(turn.output_ids) for turn in group] for group in turns]


def json_line(prompt: Any, texts: Sequence[str]) -> str:
    """One JSON line of `burnish generate --json`."""
    return json.dumps({"prompt": prompt, "completions": list(texts)}, ensure_ascii=False)
