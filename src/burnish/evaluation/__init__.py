"""Measurements of models and agents beyond held-out success."""
