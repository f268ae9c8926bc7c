"""ACE-RL needs a judge and, in the rows, checklists and target lengths."""

from pathlib import Path

ITEMS = [{"id": str(place), "dimension": "content", "text": f"holds {letter}", "explicit": True} for place, letter in enumerate("abc")]
SPECS = {
    "rewards": {"ace_rl": {"judge": f"{Path(__file__).parents[1] / 'user_parts.py'}:grade"}, "length_band": {"unit": "characters"}},
    "columns": {"instruction": "write", "checklist": ITEMS, "target_length": 6, "length_unit": "characters"},
}
