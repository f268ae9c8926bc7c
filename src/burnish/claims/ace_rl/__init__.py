"""ACE-RL: a checklist against one holistic number, with and without the length reward, and a judge made of the policy itself."""

from __future__ import annotations

from burnish.claims.ace_rl.rules import arms, plot, run, seeds, settle, shared, table, verdict
from burnish.claims.ace_rl.settings import numbers
from burnish.claims.harness.claim import Claim

claims = (
    Claim(
        id="ace-rl.1",
        title="A checklist against one number",
        paper="ACE-RL: Adaptive Constraint-Enhanced Reward for Long-form Generation Reinforcement Learning, arXiv 2509.04903",
        sentence="Grading each item of a checklist tells rollouts apart better than one holistic grade, and trains better writers.",
        rule=(
            "A policy of 0.25M parameters writes documents of 30 to 80 words for prompts with 3 to 8 requirements that a program "
            "decides, after fine-tuning on a careless teacher's documents. Every arm trains from the same model, on the same "
            "prompts, for the same number of generated tokens, at the rate that one grid chose for it on a seed of its own. The "
            "checklist's judge is the program with 10 % of its grades one step off. Reproduced if the checklist arm's satisfaction "
            "on held-out prompts, by the exact program, exceeds the holistic arm's by more than 2 standard errors over three seeds, "
            "the standard deviation of its whole reward inside groups of the same completions at step 0 is on average at least 1.5 "
            "times as large, and without the length term the length error exceeds both that of the checklist arm and that before "
            "training by more than 2 standard errors. Not reproduced if the 95 % interval of the gain lies below 0.05 or that of "
            "the ratio below 1.5. Else inconclusive."
        ),
        arms=arms,
        seeds=seeds,
        run=run,
        verdict=verdict,
        plot=plot,
        shared=shared,
        common=numbers,
        settle=settle,
        table=table,
        minutes=20,
    ),
)
