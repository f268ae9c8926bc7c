"""Ratios: how far the policy has moved, by token, by rollout, or not at all."""
