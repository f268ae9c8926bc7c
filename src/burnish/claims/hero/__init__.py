"""HERO: a verifier that misses most right answers, a scorer that can be pleased with a symbol, and six ways to use the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.claims.harness.claim import Arm, Claim
from burnish.claims.hero.settings import EFFECT, FLAT, common
from burnish.claims.hero.verdict import arms, plot, seeds, settle, table, verdict


def _base(seed: int, folder: Path, size: str) -> None:
    from burnish.claims.hero.training import make_base

    make_base(common(size), seed, folder)


def _run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    from burnish.claims.hero.training import train_and_measure

    return train_and_measure(arm, common(size), seed, folder)


claims = (
    Claim(
        id="hero.1",
        title="A verifier and a scorer together",
        paper="Hybrid Reinforcement: When Reward Is Sparse, Better to Be Dense, arXiv 2510.07242",
        sentence="Ranking answers by a reward model inside bands that the verifier fixes beats training on either signal alone.",
        rule=(
            "A policy of 0.1M parameters writes expressions equal to the prompt's; training sees a verifier that accepts one form only and"
            " a scorer that is graded, noisy and pleased by minus signs; true accuracy is measured on held-out prompts, over all"
            " completions at temperature 1. One grid of three rates serves all arms, on a seed of its own, and every arm takes the rate"
            " with the best true accuracy there. Reproduced if HERO's true accuracy at the end exceeds both single-signal arms' by more"
            " than 2 SE of the seed means, and the scorer alone shows the hack: minus signs up by more than 2 SE, true accuracy up by no"
            f" more than {FLAT} + 2 SE. Not reproduced if the 95 % interval of HERO's gain over the better single signal lies below"
            f" {EFFECT} while that signal did learn (above the base by more than 2 SE). Else inconclusive. If gated fallback is within"
            " 2 SE of HERO, the verdict says so."
        ),
        arms=arms,
        seeds=seeds,
        run=_run,
        verdict=verdict,
        plot=plot,
        shared=_base,
        common=common,
        settle=settle,
        table=table,
        minutes=60,
    ),
)
