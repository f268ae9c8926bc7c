"""Corrections: trainer against sampler. Factors without gradient that multiply the surrogate, once."""
