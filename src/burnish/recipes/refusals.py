"""What cannot work is refused before anything loads: every question that needs neither rows nor weights is asked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.inference.backends.protocol import label
from burnish.models import quant
from burnish.models.load import check_source
from burnish.recipes import papers
from burnish.recipes.config import ModelConfig, TrainConfig
from burnish.recipes.pipeline import refuse_pipeline
from burnish.recipes.policy import device_named
from burnish.recipes.rl import ROOM, build_backend, build_objective, build_reward
from burnish.rl.filters.combine import make_filter
from burnish.rl.filters.replay import refuse_nested
from burnish.rl.objectives.checks import check_updates
from burnish.rl.objectives.formula import name_of
from burnish.rl.rewards.weighted import Weighted, reward_name
from burnish.rl.rollouts.agent import make_thinker
from burnish.rl.temperature import TemperatureControl
from burnish.runs import parts, trackers
from burnish.runs.errors import UserError


def refuse_impossible(config: TrainConfig, has_data: bool, reward: Any, has_model: bool = False) -> Weighted | None:
    """Raises UserError for settings that contradict each other and for names that lead nowhere. Returns the reward of an RL run, made.

    has_data, has_model: objects were given in place of data.path and model.path. reward: in place of rl.rewards.
    """
    if config.data is None and not has_data:
        raise UserError("data.path is not set; name a JSONL, Parquet or CSV file, a dataset folder or a hub id (--data.path ...)")
    refuse_model(config.model, has_model)
    trackers.check(config.trackers)
    held_out = bool(config.eval.rows or config.eval.path)
    if config.stage == "sft":
        _refuse_sft(config, held_out)
        return None
    if config.eval.steps and not held_out:
        raise UserError("eval.steps is set but there is nothing to evaluate on; set eval.rows (held out of data.path) or eval.path")
    if config.eval.patience and not config.eval.steps:
        raise UserError("eval.patience needs eval.steps")
    if config.eval.baselines and not held_out:
        raise UserError("eval.baselines is set but there is nothing to evaluate on; set eval.rows (held out of data.path) or eval.path")
    for path in config.eval.baselines.values():
        check_source(path)
    if not config.rl.rewards and reward is None:
        raise UserError("rl.rewards is empty; name a reward, e.g. --rl.rewards '[my_reward.py:score]'")
    made = _refuse_rl(config, reward)
    refuse_pipeline(
        config, made, given=[name for name, there in (("model", has_model), ("data", has_data), ("reward", reward is not None)) if there]
    )
    return made


def refuse_model(model: ModelConfig, has_model: bool = False) -> None:
    """Raises UserError for a model that is not there, or that the loader would refuse before it reads a weight."""
    if model.device is not None:
        device_named(model.device)
    adapted = model.lora is not None or model.adapter is not None or (Path(model.path) / "adapter_config.json").exists()
    quant.check(model.quantize, model.dtype, adapted, has_model)
    if has_model:
        return
    if not model.path:
        raise UserError("model.path is not set; give a local folder, a hub id or an adapter folder (--model.path ...)")
    check_source(model.path, model.adapter, model.trust_remote_code)


def _refuse_sft(config: TrainConfig, held_out: bool) -> None:
    if config.sft.eval_steps and not held_out:
        raise UserError("sft.eval_steps is set but there is nothing to evaluate on; set eval.rows (held out of data.path) or eval.path")
    if config.eval.steps or config.eval.patience:
        name = "steps" if config.eval.steps else "patience"
        raise UserError(f"eval.{name} is for stage rl; fine-tuning measures its held-out loss: set sft.{'eval_' * (name == 'steps')}{name}")


def _refuse_rl(config: TrainConfig, given: Any) -> Weighted:
    """Makes every part that needs no items and no policy, so that a wrong name, argument or combination shows now."""
    rl = config.rl
    if rl.recipe is not None and not set(papers.settings(rl.recipe, rl.model_dump(include=rl.model_fields_set))) <= rl.model_fields_set:
        raise UserError(
            f"rl.recipe is {rl.recipe!r} but its values are not filled in; make the config with burnish.train, load_config or build"
        )
    objective = build_objective(rl)
    check_updates(objective, rl.minibatches, rl.epochs, rl.lag)
    if rl.critic_learning_rate is not None and not any(need.model == "critic" for need in objective.grad_needs()):
        raise UserError(f"rl.critic_learning_rate is set but rl.objective {objective.name!r} has no critic; leave it out, or choose ppo")
    if rl.minibatches > rl.prompts_per_step:
        raise UserError(
            f"rl.minibatches is {rl.minibatches} but a step has only {rl.prompts_per_step} groups (rl.prompts_per_step), "
            "which are never cut; lower the one or raise the other"
        )
    spec: Any = rl.curriculum
    while spec is not None:  # a curriculum may wrap another
        parts.check(f"{ROOM}.curricula", spec, ("items",))
        spec = spec.get("curriculum") if isinstance(spec, dict) else None
    thinker = make_thinker(rl.thinker)
    if hasattr(thinker, "check_limit"):
        thinker.check_limit(rl.max_new_tokens)
    for step in objective.credit.steps:
        if (wanted := getattr(step, "thinker", None)) and not getattr(thinker, wanted[0], False):
            raise UserError(
                f"credit {name_of(step)!r} reads what the thinker {label(rl.thinker)} does not bring; set rl.thinker to {wanted[1]!r} "
                f"(a thinker of your own says `{wanted[0]} = True` where it does)"
            )
    build_backend(config, thinker)
    filters = [make_filter(spec) for spec in rl.filters or ()]
    refuse_nested(filters)
    for part in filters:
        if hasattr(part, "check_objective"):
            part.check_objective(objective)
    if rl.temperature is not None:
        TemperatureControl(rl.temperature, config.sampling.temperature)
    shapers = [parts.make(f"{ROOM}.rewards", spec) for spec in rl.shapers]
    for spec, shaper in zip(rl.shapers, shapers):
        if not hasattr(shaper, "shape"):
            raise UserError(f"rl.shapers: {spec!r} does not shape scores (it has no `shape`); put it under rl.rewards")
    reward = build_reward(rl, None, given)
    objective.for_run(rl.group_size, rl.max_new_tokens, config.sampling.sampling(), parts=(reward, *shapers))
    compared = next((step for step in objective.credit.steps if getattr(step, "thinker", None)), None)
    blind = next((one for one in reward.rewards if getattr(one, "reads_loss_tokens", False)), None)
    if compared is not None and blind is not None:
        raise UserError(
            f"credit {name_of(compared)!r} compares with a completion that is never trained on, of which the reward {reward_name(blind)!r} "
            "says nothing, since it reads the tokens that are; choose another reward, or a baseline such as group_mean"
        )
    return reward
