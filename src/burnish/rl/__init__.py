"""Reinforcement learning: one loop, five questions."""
