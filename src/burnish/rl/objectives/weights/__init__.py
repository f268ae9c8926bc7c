"""Weights: the one denominator of an objective, fixed for a whole optimiser step before it is cut."""
