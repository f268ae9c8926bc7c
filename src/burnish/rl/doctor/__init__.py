"""The doctor: reads a run folder, says what is wrong with the run, with evidence and remedy, and which invariants held."""
