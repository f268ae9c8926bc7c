"""G2RL: does novelty of the update keep a policy's right answers different, and is it the geometry that does it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish.claims.g2rl.outcome import EFFECT, EFFECT_DISTINCT, LEARNED, plot, table, verdict
from burnish.claims.g2rl.settings import arms, common, seeds, settle
from burnish.claims.harness.claim import Arm, Claim


def _base(seed: int, folder: Path, size: str) -> None:
    from burnish.claims.g2rl.training import make_base

    make_base(common(size), seed, folder)


def _run(arm: Arm, seed: int, folder: Path, size: str) -> dict[str, Any]:
    from burnish.claims.g2rl.training import train_and_measure

    return train_and_measure(arm, common(size), seed, folder)


claims = (
    Claim(
        id="g2rl.1",
        title="Rewards shaped by the geometry of updates keep right answers different",
        paper="Can LLMs Guide Their Own Exploration? Gradient-Guided Reinforcement Learning for LLM Reasoning, arXiv 2512.15687",
        sentence="Scaling the rewards of a group by how novel a direction each completion would move the policy in raises pass@16 and the "
        "variety of right answers over GRPO at no cost in pass@1, with update directions that are less alike.",
        rule="A policy of 0.1M parameters, fine-tuned to pass@1 near 0.3 on finding paths of seven nodes in a fixed graph (10 to 50 right "
        "answers a prompt), is trained for the same steps on the same prompts in six arms: GRPO, entropy bonus, character-n-gram novelty, "
        "G2RL in its two readings, and G2RL with nubar dealt out at random. Each arm's rate (and the bonus's coefficient) is chosen on one "
        "seed by the mean of pass@1 and pass@16. Differences are paired over five seeds; SE is the larger of that over seeds and that over "
        "held-out pairs. Reproduced if the text reading is above GRPO and above random nubar by more than 2 SE in pass@16 and in different "
        "right answers of 16, in pass@1 not below GRPO by more than 2 SE, and lower than GRPO in mean cosine. Not reproduced if it is not, "
        f"nor is the formula reading, and against GRPO or random nubar mean + 2 SE is below {EFFECT} in pass@16 and below "
        f"{EFFECT_DISTINCT} answers, while GRPO gained {LEARNED} in pass@1 or more and its pass@16 leaves room for {EFFECT}. Else "
        "inconclusive.",
        arms=arms,
        seeds=seeds,
        run=_run,
        verdict=verdict,
        plot=plot,
        shared=_base,
        common=common,
        settle=settle,
        table=table,
        minutes=40,
    ),
)
