"""Comparison of two arms of runs: what differs, by how much, and whether it could be the seeds."""
