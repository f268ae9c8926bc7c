"""Claims of the objective catalogue: every preset learns from the same base within the same budget; a random reward does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim
from burnish.claims.rl_catalogue.settings import TARGET, common
from burnish.claims.rl_catalogue.verdict import arms, plot, seeds, settle, table, verdict


def _base(seed: int, folder: Path, size: str) -> None:
    from burnish.claims.rl_catalogue.base import make_base

    make_base(seed, folder, size)


def _learn(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    from burnish.claims.rl_catalogue.learn import learn

    return learn(arm, seed, folder, size)


claims = (
    Claim(
        id="rl-catalogue.1",
        title="every preset learns; a random reward does not",
        paper="A Survey of Reinforcement Learning for Large Reasoning Models, arXiv 2509.08827, and the papers of the presets",
        sentence="One objective with six knobs holds the published methods as presets, and each of them raises a small model's pass rate.",
        rule=f"Reproduced where every preset exceeds a held-out pass rate of {TARGET} within the token budget on three of three seeds, at "
        "the learning rate that one grid of three chose on a seed of its own, and the same run with a random reward does not on any.",
        arms=arms,
        seeds=seeds,
        run=_learn,
        verdict=verdict,
        plot=plot,
        shared=_base,
        common=common,
        settle=settle,
        table=table,
        minutes=60,
    ),
)
