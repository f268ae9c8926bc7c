"""The few lines of Python: `burnish.train(...)` and `burnish.evaluate(...)`, with the same fields as YAML and flags."""

from __future__ import annotations

import os
from typing import Any

from burnish.recipes.config import TrainConfig
from burnish.recipes.evaluate import EvalRunConfig, run_evaluation
from burnish.recipes.train import train as train_config
from burnish.runs.config import build
from burnish.tasks.evaluation import EvalResult


def train(
    *,
    model: Any,
    data: Any,
    output: str,
    reward: Any = None,
    tokenizer: Any = None,
    resume: bool = False,
    silent: bool = True,
    **fields: Any,
) -> dict[str, Any]:
    """Trains `model` on `data` and returns {"run", "policy", "step", ...}; see `burnish train --fields` for all fields.

    model: a folder, hub id or model object (then with its tokenizer). data: a path, a list of dictionaries or a datasets.Dataset.
    reward: a callable in TRL's signature, a name, or a list of them (stage rl, the default). fields: nested as in YAML, for example
    `rl={"steps": 50}`, `stage="sft"`. Raises UserError.
    """
    fields |= {"output": str(output), "model": _model(model, fields), "data": _data(data, fields)}
    config = build(TrainConfig, {key: value for key, value in fields.items() if value is not None})
    return train_config(config, **_objects(model, data, reward), tokenizer=tokenizer, resume=resume, silent=silent)


def evaluate(*, model: Any, data: Any, reward: Any, tokenizer: Any = None, silent: bool = True, **fields: Any) -> EvalResult:
    """Measures `model` on `data`: `.success()`, `.pass_at(k)` with 95 % intervals; fields as of `burnish eval`, such as `samples=4`."""
    fields |= {"model": _model(model, fields), "data": _data(data, fields)}
    config = build(EvalRunConfig, {key: value for key, value in fields.items() if value is not None})
    return run_evaluation(config, **_objects(model, data, reward), tokenizer=tokenizer, silent=silent)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _model(model: Any, fields: dict[str, Any]) -> dict[str, Any]:
    settings = dict(fields.pop("model_args", None) or {})
    return settings | {"path": str(model)} if _is_path(model) else settings


def _data(data: Any, fields: dict[str, Any]) -> dict[str, Any] | None:
    settings = dict(fields.pop("data_args", None) or {})
    return settings | {"path": str(data) if _is_path(data) else "data"} if settings or _is_path(data) else None


def _objects(model: Any, data: Any, reward: Any) -> dict[str, Any]:
    return {"model": None if _is_path(model) else model, "data": None if _is_path(data) else data, "reward": reward}
