"""HICRA needs its phrases, and its credit the shaper that marks them."""

SHAPER = {"grams": ["a", "b"], "least": 0.0}
SPECS = {"rewards": {"hicra": SHAPER}, "with": {"credit/hicra": {"shapers": [{"name": "hicra", **SHAPER}]}}}
