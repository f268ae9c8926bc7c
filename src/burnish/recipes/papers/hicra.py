"""HICRA (arXiv 2509.03646): GRPO with a centred advantage and no division by its spread, clip-higher, planning tokens given more credit.

Which tokens plan says your grams file: `rl.shapers: [{name: hicra, grams: grams.json, tokenizer: <model.path>}]`. The paper names no KL
coefficient for it; there is none here (`rl.beta` sets one). Rewards are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.runs.errors import UserError


def recipe(given: Mapping[str, Any]) -> dict[str, Any]:
    """Needs your shapers. Raises UserError where no shaper `hicra` with grams is among them (not for an empty `given`: a listing)."""
    if given and not _marks(given.get("shapers", ())):
        raise UserError(
            "rl.recipe hicra needs to know the planning tokens, but rl.shapers names no grams file; add {name: hicra, grams: grams.json, "
            "tokenizer: <model.path>}, and make the file with `burnish method hicra extract SOLUTIONS.jsonl`"
        )
    return {
        "objective": {
            "preset": "grpo",
            "credit": ["group_mean", "hicra"],
            "surrogate": {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28},
            "kl": {"beta": 0.0},
        },
        "thinker": "single",
    }


def _marks(shapers: Any) -> bool:
    """Whether one of them is the shaper with grams, or of the user's own, which may well write the column."""
    for spec in shapers if isinstance(shapers, list | tuple) else [shapers]:
        name = spec.get("name") if isinstance(spec, Mapping) else spec
        if not isinstance(name, str) or ":" in name:
            return True
        if name == "hicra" and isinstance(spec, Mapping) and spec.get("grams"):
            return True
    return False
