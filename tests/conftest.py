"""What all tests share: one thread, no network, no skip without a reason that stands in skip_reasons.txt."""

import os

# Before torch is imported anywhere: tiny models are far slower on two threads than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from skip_reasons import unexpected


def reason_of(report) -> str:
    """The reason of a skipped test, as it was written."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_sessionfinish(session, exitstatus):
    """Fails the run where a test was skipped for a reason that is not committed. Runs once, in the controlling process."""
    if hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    found = unexpected({reason_of(report) for report in reports if not hasattr(report, "wasxfail")}, os.environ)
    if found:
        reporter.write_line(f"skipped for reasons that are not in tests/skip_reasons.txt: {sorted(found)}", red=True)
        session.exitstatus = 1
