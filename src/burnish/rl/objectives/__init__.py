"""How the policy moves: ratio, surrogate, correction, KL, weights, entropy. See `objective.py`; presets by name in `presets.py`."""
