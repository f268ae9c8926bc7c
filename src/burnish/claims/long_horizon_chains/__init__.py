"""Claims of long-horizon chains: the curriculum at equal tokens, horizons that were never trained on, and what a horizon costs."""

from burnish.claims.long_horizon_chains import cost, stages, unseen

claims = (stages.CLAIM, unseen.CLAIM, cost.CLAIM)
