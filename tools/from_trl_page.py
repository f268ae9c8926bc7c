"""Write the tables of docs/from_trl.md: every field of TRL's GRPOConfig and SFTConfig, and what becomes of it.

python tools/from_trl_page.py
"""

from __future__ import annotations

import re
from pathlib import Path

from burnish.recipes.trl.arguments import table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "from_trl.md"


def filled(text: str) -> str:
    """The page with both tables as they are now."""
    for name in ("GRPOConfig", "SFTConfig"):
        marks = f"(<!-- {name} -->\n).*?(<!-- end -->)"
        text = re.sub(marks, lambda found, name=name: f"{found[1]}\n{table(name)}\n{found[2]}", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)
