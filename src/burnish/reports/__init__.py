"""report.html of a run, comparison of runs, tables and plots."""
