"""Which skips are allowed: the committed list, read by conftest.py."""

import pathlib

ALLOWED = {
    line for line in (pathlib.Path(__file__).parent / "skip_reasons.txt").read_text().splitlines() if line and not line.startswith("#")
}


def unexpected(reasons, environment) -> set[str]:
    """Reasons that are not on the list, or that do not hold: with data at hand, no test may miss it."""
    out = {reason for reason in reasons if reason not in ALLOWED}
    if environment.get("BURNISH_DATA") and "BURNISH_DATA is not set" in reasons:
        out.add("BURNISH_DATA is not set")
    return out
