"""Sampler and trainer must agree: log-probs recorded at the wrong temperature, and gaps of other kinds."""

from __future__ import annotations

import numpy as np

from burnish.rl.doctor.finding import Finding, TooLittle
from burnish.rl.doctor.reading import RunView
from burnish.rl.doctor.words import enough, number

GAP = "sampling/sampling_logp_difference"
SLOPE, GAP_MEAN = 0.02, 1e-3
"""A temperature is wrong where the slope is off by this and the mean gap (nats) is larger than this."""
LARGE = {"float32": 1e-2, "float64": 1e-2, "bfloat16": 0.1}
"""Mean gaps that no rounding of this dtype explains."""
SURPRISE = 0.1
"""A relative difference of mean surprise and entropy that honest sampling does not show in the mean of a run (and four standard errors)."""


def diagnose(run: RunView) -> list[Finding]:
    """logprob_temperature, logprob_gap."""
    enough(run, "rl", 3)
    steps, gaps = run.series(f"{GAP}/mean")
    _, slopes = run.series(f"{GAP}/slope")
    found = _gap(run, steps, gaps, slopes) if len(gaps) >= 3 else []
    if not found:
        found = _surprise(run)
    if not found and len(gaps) < 3:
        raise TooLittle("the gap between sampler and trainer was logged in fewer than 3 steps")
    return found


def _gap(run: RunView, steps: list[int], gaps: list[float], slopes: list[float]) -> list[Finding]:
    gap = float(np.mean(gaps))
    if len(slopes) >= 3 and gap > GAP_MEAN:
        slope, scatter = float(np.mean(slopes)), float(np.std(slopes, ddof=1) / len(slopes) ** 0.5)
        if abs(slope - 1) > max(SLOPE, 4 * scatter):
            colder = "colder" if slope < 1 else "hotter"
            declared = run.setting("sampling.temperature", 1.0)
            sentence = "The sampler's log-probs are not at the trainer's temperature"
            return [
                Finding(
                    "logprob_temperature",
                    "fault",
                    f"{sentence}: they were taken {colder}, by a factor of about {number(slope)}.",
                    (
                        f"mean gap {number(gap)} nats over steps {steps[0]} to {steps[-1]} (rounding alone leaves 1e-6)",
                        f"trainer's log-probs = {number(slope)} x sampler's (+- {number(2 * scatter)}); 1 where the temperatures are equal",
                    ),
                    f"record in each turn the sampling it was drawn with (sampling.temperature is {declared}), and draw with no other",
                    cause=12,
                )
            ]
    limit = LARGE.get(str(run.setting("model.dtype", "float32")), 0.1)
    if gap <= limit:
        return []
    return [
        Finding(
            "logprob_gap",
            "fault",
            "Sampler and trainer disagree on the log-probs of the same tokens by more than rounding.",
            (f"mean gap {number(gap)} nats, largest step {number(max(gaps))}; {limit} is what {run.setting('model.dtype')} may leave",),
            "sample with rl.engine_mode exact, check that the sampler has the newest weights (turn.version), or correct for it "
            "(rl.objective {ratio: {name: token, against: sampler}})",
            cause=12,
        )
    ]


def _surprise(run: RunView) -> list[Finding]:
    """Tokens drawn from the recorded distribution have, on average, its entropy as their surprise."""
    one_move = run.setting("rl.minibatches", 1) * run.setting("rl.epochs", 1) == 1 and run.setting("rl.lag", 0) == 0
    truncates = run.setting("sampling.top_k", 0) or run.setting("sampling.top_p", 1) < 1 or run.setting("sampling.min_p", 0) > 0
    # Filters choose by outcome, and what was chosen is no fair sample any more: steps that kept all they drew.
    whole = [row for row in run.metrics if row.get("rollouts/kept") == row.get("rollouts/drawn")]
    pairs = [(row.get("sampling/surprise"), row.get("entropy")) for row in whole]
    known = [(a, b) for a, b in pairs if isinstance(a, float) and isinstance(b, float) and b > 0.02]
    if not one_move or truncates or run.setting("sampling.temperature", 1.0) == 0 or len(known) < 8:
        return []
    surprise, entropy = np.array(known).T
    difference = surprise - entropy
    mean, scatter = float(difference.mean() / entropy.mean()), float(difference.std(ddof=1) / len(known) ** 0.5 / entropy.mean())
    if abs(mean) < max(SURPRISE, 4 * scatter):
        return []
    what = "likelier" if mean < 0 else "less likely"
    return [
        Finding(
            "logprob_temperature",
            "fault",
            f"The sampled tokens are {what} than the recorded distribution says: they were drawn at another temperature, or otherwise.",
            (f"mean surprise {number(float(surprise.mean()))}, entropy {number(float(entropy.mean()))} nats over {len(known)} steps",),
            "record in each turn the sampling it was drawn with (turn.sampling), and declare top-k, top-p and bans in `sampling`",
            cause=12,
        )
    ]
