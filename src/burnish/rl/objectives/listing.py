"""What there is to choose from: presets, and the values of every knob, as rows of tables."""

from __future__ import annotations

import inspect
from typing import Any, get_args

from burnish.rl.objectives import presets
from burnish.rl.objectives.entropy import Entropy
from burnish.rl.objectives.formula import name_of, text_of
from burnish.rl.objectives.kl import KL
from burnish.rl.objectives.objective import Objective
from burnish.runs import parts
from burnish.runs.config import Config, describe_fields

ROOMS = {
    "credit": "burnish.rl.credit",
    "ratio": "burnish.rl.objectives.ratios",
    "surrogate": "burnish.rl.objectives.surrogates",
    "correction": "burnish.rl.objectives.corrections",
    "weights": "burnish.rl.objectives.weights",
}


def preset_rows() -> list[dict[str, str]]:
    """One row for each preset: its knobs in short (fields that differ from their defaults in brackets)."""
    return [{"preset": name, **in_short(presets.preset(name)), "filters": ", ".join(presets.filters(name))} for name in presets.names()]


def in_short(objective: Objective) -> dict[str, str]:
    """Every knob in a few words."""
    kl = objective.kl
    return {
        "credit": " >> ".join(_short(step) for step in objective.credit.steps),
        "ratio": _short(objective.ratio),
        "surrogate": _short(objective.surrogate),
        "correction": ", ".join(_short(part) for part in objective.correction),
        "kl": f"{kl.beta} {kl.estimator} in {kl.place}" if kl.active else "",
        "weights": _short(objective.weights),
        "entropy": objective.entropy.describe() if objective.entropy.active else "",
    }


def knob_rows() -> list[dict[str, str]]:
    """One row for each value of each knob: {"knob", "value", "fields" with their defaults, "formula" at the defaults}."""
    rows = []
    for knob, package in ROOMS.items():
        for name in parts.names(package):
            part = parts.find(package, name)
            kind = getattr(part, "kind", None)
            made = part() if inspect.isclass(part) else part
            fields = [f"{field}={default}" for field, _, default, _ in describe_fields(part) if field != "name"] if _is(part) else []
            rows.append(
                {"knob": f"{knob} ({kind})" if kind else knob, "value": name, "fields": ", ".join(fields), "formula": text_of(made)}
            )
    for value in [*get_args(KL.model_fields["estimator"].annotation), "k3+"]:
        text = KL(beta=1.0, estimator=value, place="reward" if value == "k1" else "loss").describe().removeprefix("1.0 * ")
        rows.append({"knob": "kl (estimator)", "value": value, "fields": "", "formula": text.partition(", + in")[0].partition(", - in")[0]})
    for knob, model in (("kl", KL), ("entropy", Entropy)):
        rows += [
            {"knob": knob, "value": field, "fields": default, "formula": meaning}
            for field, _, default, meaning in describe_fields(model)
            if (knob, field) != ("kl", "estimator")
        ]
    return rows


def _is(part: Any) -> bool:
    return inspect.isclass(part) and issubclass(part, Config)


def _short(part: Any) -> str:
    """name(field=value, ...) with the fields that are not at their defaults."""
    if not isinstance(part, Config):
        return name_of(part)
    changed = [
        f"{name}={getattr(part, name)}"
        for name, field in type(part).model_fields.items()
        if name != "name" and getattr(part, name) != field.get_default(call_default_factory=True)
    ]
    return name_of(part) + (f"({', '.join(changed)})" if changed else "")
