"""Load, save and make models; log-probs; the architectures."""
