"""The runs that are compared: for each method the fields of `rl` without its parts and with them. A scorer's own time is told apart."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

HERE = Path(__file__)
SPENT = [0.0]
"""CPU seconds inside scorers so far."""
GRAMS = ["a b", "e t", "o n", "t h", "s e", "r a", "x y", "q u"]
"""Phrases that random letters and spaces hold now and then."""


class Watch:
    """A shaper that asks for log-probs under the weights that sampled, and changes nothing: such a run makes a measuring pass anyway."""

    def __init__(self) -> None:
        from burnish.models.needs import Need

        self.needs = (Need(what="logp"),)

    def shape(self, completions: Any, scores: Any, measured: Any) -> Any:
        """As given."""
        return scores


def scorer(text: str, columns: Any) -> float:
    """A score that costs next to nothing; what it costs is counted."""
    started = time.process_time()
    found = len(set(text)) / 64 + 0.001 * (len(text) % 7)
    SPENT[0] += time.process_time() - started
    return found


def right(text: str, columns: Any) -> float:
    """A verifier of about half the completions."""
    return float(len(set(text)) % 2)


def side(*shapers: Any, **fields: Any) -> dict[str, Any]:
    """Fields of `rl`: centred credit, a verifier, these shapers."""
    return {"objective": "dr_grpo", "rewards": [f"{HERE}:right"], "shapers": list(shapers), **fields}


MARKS = {"name": "hicra", "grams": GRAMS, "least": 0.0}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], float | None]] = {
    "A/A": (side(), side(), None),
    "g2rl, in a run that measures": (side(f"{HERE}:Watch"), side(f"{HERE}:Watch", "g2rl"), 0.10),
    "g2rl, in a run that does not": (side(), side("g2rl"), 0.25),
    "hicra": (side(), side(MARKS, objective={"preset": "dr_grpo", "credit": ["group_mean", "hicra"]}), 0.02),
    "hero": (side(), side({"name": "hero", "scorer": f"{HERE}:scorer"}), 0.02),
    "retirement": (side(curriculum="shuffled_epochs"), side(curriculum={"name": "retirement", "at": 1.0}), 0.02),
    "long-horizon-chains": (side(curriculum="shuffled_epochs"), side(curriculum={"name": "long_horizon_chains"}), 0.02),
}
"""name -> (fields without, fields with, the share of a step that is allowed; None: no bound)."""
