"""Writes the generated pages of the claims: docs/claims/README.md, the verdicts on docs/methods/*.md, the table in README.md.

`--check` fails where one of them is out of date.
"""

from __future__ import annotations

import pathlib
import sys

from burnish.claims.harness.pages import pages, stale
from burnish.runs import atomic

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> int:
    """Writes or checks."""
    old = stale(ROOT)
    if "--check" in sys.argv:
        names = ", ".join(str(path.relative_to(ROOT)) for path in old)
        print(f"out of date: {names}; run `python tools/claims_pages.py`" if old else "the claims' pages are up to date")
        return 1 if old else 0
    for path, text in pages(ROOT).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
