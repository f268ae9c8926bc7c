"""The generated pages say what the result files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

from burnish.claims.harness.pages import BEGIN, END, between, pages, stale

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_pages_are_not_stale():
    assert [str(path.relative_to(ROOT)) for path in stale(ROOT)] == [], "run `python tools/claims_pages.py`"


def test_a_verdict_shows_on_the_pages_and_only_between_the_markers(tmp_path):
    folder = tmp_path / "docs" / "claims" / "rl-catalogue" / "rl-catalogue.1"
    folder.mkdir(parents=True)
    method = tmp_path / "docs" / "methods" / "rl-catalogue.md"
    method.parent.mkdir()
    method.write_text(f"# Mine\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    (tmp_path / "README.md").write_text("no markers")
    found = pages(tmp_path)
    assert set(found) == {tmp_path / "docs/claims/README.md", method}
    assert "| [rl-catalogue.1](../methods/rl-catalogue.md) |" in found[tmp_path / "docs/claims/README.md"]
    assert "not run" in found[tmp_path / "docs/claims/README.md"]
    assert found[method].startswith(f"# Mine\n\n{BEGIN}\n### rl-catalogue.1")
    assert found[method].endswith(f"{END}\n\nafter\n")
    assert stale(tmp_path)

    verdict = {"status": "inconclusive", "reason": "it depends", "figures": {"x": 0.5}, "size": "full", "counts": True, "runs": 3}
    verdict |= {"cpu_seconds": 12.0, "table": [{"preset": "grpo", "above": "3 of 3"}]}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    (folder / "plot.svg").write_text("<svg></svg>")
    found = pages(tmp_path)
    assert re.search(r"\| done +\| inconclusive +\|", found[tmp_path / "docs/claims/README.md"])
    assert "Verdict: **inconclusive**. it depends." in found[method]
    assert "| grpo   | 3 of 3 |" in found[method]
    (folder / "verdict.json").write_text(json.dumps(verdict | {"counts": False, "size": "smoke"}))
    assert "this does not count" in pages(tmp_path)[method]
    assert "inconclusive" not in pages(tmp_path)[tmp_path / "docs/claims/README.md"].split("|", 1)[1]
    for path, text in found.items():
        path.write_text(text)
    assert between(method, "new") == {method: f"# Mine\n\n{BEGIN}\nnew\n{END}\n\nafter\n"}
