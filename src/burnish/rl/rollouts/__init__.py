"""How the policy thinks: `think(items, session)` yields rollouts as they finish."""
