"""Run folders, configuration, seeds, the resumable optimiser loop, trackers, progress, plots and statistics."""
